"""From a job to a verdict: queue, engine, judge, journal, outputs."""
