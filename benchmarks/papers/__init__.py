"""Published results, trained again: one folder a paper, one harness for all of them.

A paper's folder holds four files:

``config.toml``
    What is run. Every table and key but ``paper``, ``runs`` and ``full`` is a setting of all runs;
    an entry of ``[[runs]]`` adds its own::

        [paper]
        number = 1                    # where it stands in the whole table
        title = "Pascanu, Mikolov and Bengio, On the Difficulty of ..., 2013"
        setting = "temporal order, T = {steps}"   # filled in with the settings of the run
        method = "{method}"
        seeds = 5                     # an entry of runs may state its own
        budget = "at most {cap} updates"
        scaled = true                 # smaller or shorter than what was published
        note = "..."                  # stands under the paper's rows
        layout = "wide"               # figures side by side, none published; else "long"

        [model]                       # settings, as you like
        units = 50

        [[runs]]
        steps = 20
        method = "SGD"
        cap = 100_000
        [[runs.rows]]                 # what the table says of this run: any number of rows
        quantity = "updates"          # a figure that `attempt` returned
        unit = "updates"              # as the table prints it; the quantity if not given
        statistic = "median"          # over seeds: median, mean, or count (of true ones)
        among = "solved"              # only runs in which this figure is true
        better = "lower"              # or "higher"; a figure that is no number counts as the worst
        published = 21_000            # a number or a text such as "< 0.01"; absent: none is known
        source = "section 4.1.1"      # where it is printed
        why = "..."                   # how far ours is, and why

        [[rows]]                      # those of all entries that have none of their own
        quantity = "updates"

        [full.paper]                  # over the above, key by key, for --full
        budget = "at most {cap} updates"
        [full.each]                   # over every entry of runs ([[full.runs]] replaces them all)
        cap = 5_000_000

    ``rows`` entries may override ``number``, ``setting``, ``method``, ``budget``, ``scaled``.
``__main__.py``
    ``attempt(settings, seed) -> {figure: number}`` does one run, and may show where it stands by
    ``harness.progress(text)``; ``harness.main(__file__, attempt)`` does the rest: ``python -m
    benchmarks.papers.NAME`` and its options (``--help``).
``runs.jsonl``
    Every finished run, appended at once, keyed by its settings and its seed. A run that stands
    there is not done again; where a setting changed, the runs that it touches are done anew and the
    old ones no longer count. Committed.
``result.json``
    The rows (`steadygrad.bench.paper_table.PaperRow`), made from the two above by every call,
    ``--table`` included, which trains nothing. Committed; ``steadygrad bench papers`` prints all,
    ``python -m docs.papers`` writes the page of them.

``--full`` keeps its own ``full.runs.jsonl`` and ``full.result.json``.
"""
