"""The page of demo.py in a real browser, given pictures and sentences as a user gives them."""

import runpy
from pathlib import Path

import pytest

from fewshot import FewShotLearner
from fewshot.predict.examples import read_queries, read_support
from tests.entry import ROOT
from tests.predict.test_command import write_image
from tests.predict.test_learner import TRUST
from tests.predict.test_sentences import QUERIES, SUPPORT, untrained_on_sentences, write_csv
from tests.runs import untrained

pytest.importorskip("playwright", reason="Playwright is not installed: make setup")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/usr/bin/chromium").is_file(), reason="Chromium is not installed"),
]


@pytest.fixture(scope="module")
def page_script():
    """Functions of the script that makes the pictures of the docs."""
    return runpy.run_path(str(ROOT / "docs/images/demo.py"))


@pytest.fixture
def errors():
    """What the browser's console says is wrong."""
    return []


def test_pictures_are_recognised(page_script, errors, compose_config, tmp_path):
    folder, _ = untrained(compose_config(tmp_path, "model=maml"), spoilt=0)
    for level, name in enumerate(["дом", "b", "a"]):
        for number in range(2):
            write_image(tmp_path / "support" / name / f"{number}.png", level, noise=number)
        write_image(tmp_path / "query" / f"{level}.png", level, noise=10)
    support, _ = read_support(tmp_path / "support")
    queries = read_queries(tmp_path / "query")
    learner = FewShotLearner.from_run(folder, trust=TRUST)
    with page_script["opened"](learner) as page:
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        assert "MAML over Conv4, at most 3 classes" in page.inner_text("#about")
        page_script["recognise"](page, support, queries)
        assert page.inner_text("#error") == ""
        answers = page.locator("#answers .answer strong").all_inner_texts()
        assert page.locator("#answers img").count() == page.locator("#classes img").count() / 2 == 3
        assert "Of the given examples" in page.inner_text("#steps")
        assert page.locator("#curve polyline").count() == 3 + len(queries) + 1
        page.locator("#classes img").first.click()  # takes a picture away
        page.locator("#classes .remove").nth(1).click()  # and a class
        page.click("#clear")
        page.wait_for_selector("#result", state="hidden")
        page.click("#go")
        page.wait_for_selector("#result:not([hidden])")
        assert page.locator("#answers .answer").count() == 0
        page.locator("#classes .remove").last.click()
        page.click("#go")
        page.wait_for_selector("#error:not(:empty)")
        assert page.inner_text("#error").startswith("give two classes or more")
    learner.fit([example.item for example in support], [example.label for example in support])
    assert answers == learner.predict([query.item for query in queries]).tolist()
    assert all("400" in error for error in errors), errors  # the answer that was refused


def test_sentences_are_recognised(page_script, errors, compose_config, tmp_path):
    learner = FewShotLearner.from_run(untrained_on_sentences(compose_config, tmp_path))
    support, _ = read_support(write_csv(tmp_path / "support.csv", ["text", "class"], SUPPORT.items()))
    queries = read_queries(write_csv(tmp_path / "query.csv", ["text"], [[text] for text in QUERIES]))
    with page_script["opened"](learner) as page:
        page.on("console", lambda message: errors.append(message.text))
        assert "some five sentences of each" in page.inner_text("body")
        page_script["recognise"](page, support, queries)
        assert page.inner_text("#error") == ""
        assert page.locator("#answers q").all_inner_texts() == QUERIES
        assert page.locator("#answers strong").all_inner_texts() == ["оплата", "../travel", "../travel"]
        first = page.locator("#answers .bars").first.inner_text()
    assert f"оплата: {100 * learner.predict_proba(QUERIES[:1]).max():.1f} %" in first
    assert not errors
