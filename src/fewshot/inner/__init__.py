"""The inner loop: gradient steps on each task, and the outer gradient that follows from them.

From the top, each module on those below it:

    memory, diagnostics         what a step needs and does
    functional_engine           one task per operation
    vectorized_engine           many tasks per operation
    chunks, threads             a meta-batch in chunks of tasks, side by side
    learn2learn_engine          the reference
    engine                      what engines have in common; which is the fastest
    frozen_features             layers that no task adapts are computed once
    unrolled, implicit, reptile the outer gradients, with their settings
    annealing                   schedules of `unrolled`
    inner_loop                  the settings that all of them have
    fast_weights                the parameters of each task: an inner step, a query loss
    rates, transforms           what an inner gradient is multiplied by
    call                        a network with other weights than its own
"""
