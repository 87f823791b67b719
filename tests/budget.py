"""Tests are a time budget: CPU seconds of each, counted over threads and children, in whatever process it ran.

A test without the mark `slow` or `proof` that takes more than `LIMIT` fails, but in continuous integration, whose machines
differ: a change must not be refused for the machine that it met. With ``--durations`` (`make test`),
the CPU seconds of the files are printed too, the largest first.
"""

import os
from collections import Counter
from collections.abc import Generator

import pytest

LIMIT = 2.0
"""CPU seconds of the call of a test without a mark; where more processes run than there are CPUs, as many times as much."""
SHOWN = 15
"""Files, the largest first."""

SINCE = pytest.StashKey[float]()


def cpu_seconds() -> float:
    """Of this process, its threads, and its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def allowed() -> float:
    """`LIMIT`, stretched on a machine with more to do than CPUs: there the same work takes more CPU time too."""
    return LIMIT * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with most slow tests first: the last ones are short, so that no worker waits long for another."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    item.stash[SINCE] = cpu_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    now = cpu_seconds()
    seconds, item.stash[SINCE] = now - item.stash[SINCE], now
    report.user_properties.append(("cpu", seconds))
    marked = "CI" in os.environ or any(item.get_closest_marker(name) for name in ("slow", "proof"))
    if report.when == "call" and report.passed and not marked and seconds > allowed():
        report.outcome = "failed"
        report.longrepr = (
            f"{item.nodeid} took {seconds:.1f} CPU seconds, but a test without a mark may take {allowed():.1f}; "
            "make it smaller, or mark it pytest.mark.slow (one real run or process) or pytest.mark.proof (left to make prove)"
        )
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.durations is None:
        return
    files: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                files[report.nodeid.partition("::")[0]] += dict(report.user_properties)["cpu"]
    terminalreporter.section(f"{files.total():.0f} CPU seconds, after imports")
    for name, seconds in files.most_common(SHOWN):
        terminalreporter.write_line(f"{seconds:8.1f} {name}")
