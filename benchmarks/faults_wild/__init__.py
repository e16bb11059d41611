"""Faults as people report them: small trainings in stock torch code, judged by the default watch.

Each case is modelled on a public report, named by its address: what goes wrong in it, or what is
right in it though it looks odd. The code is made new, in the smallest form that shows the same. A
case says which names of a fault are right for it, or that there is none, and whether its gradient
can be measured at all. The lag is one that a user would guess, or none.

Cases fall into two parts by a hash of their names. Rules were changed while looking at the
development part alone; the held-back part was run once, when they no longer changed.

    python -m benchmarks.faults_wild --part development   # run what is missing, print the table
    python -m benchmarks.faults_wild --table              # print what is committed
    python -m benchmarks.faults_wild --unwatched          # losses alone: is the fault one?
"""
