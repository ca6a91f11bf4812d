"""Reads metrics from standard input as Prometheus' own client library reads them, and finds what a scrape would trip over.

metrics_check.py             exit code 0 if all is well
"""

import math
import re
import sys

from prometheus_client.parser import text_string_to_metric_families

text = sys.stdin.read()
families = list(text_string_to_metric_families(text))
assert families, "there is nothing"
names, series = set(), set()
for family in families:
    assert family.name not in names, f"{family.name} is there twice"
    names.add(family.name)
    assert family.documentation, f"{family.name} has no help"
    assert family.type in ("counter", "gauge", "histogram"), f"{family.name} is a {family.type}"
    assert re.fullmatch("[a-z][a-z0-9_]*", family.name), family.name
    buckets = {}
    for sample in family.samples:
        key = (sample.name, tuple(sorted(sample.labels.items())))
        assert key not in series, f"{key} is there twice"
        series.add(key)
        assert all(re.fullmatch("[a-z][a-z0-9_]*", label) for label in sample.labels), key
        assert not math.isnan(sample.value), key
        if family.type == "counter":
            assert sample.name.endswith("_total") and sample.value >= 0, key
        if sample.name.endswith("_bucket"):
            rest = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
            buckets.setdefault(rest, []).append((float(sample.labels["le"]), sample.value))
    for rest, list_of in buckets.items():
        assert list_of == sorted(list_of), f"{family.name}{rest} does not rise"
        assert list_of[-1][0] == math.inf, f"{family.name}{rest} has no +Inf"
        count = [one.value for one in family.samples if one.name.endswith("_count") and tuple(sorted(one.labels.items())) == rest]
        assert count == [list_of[-1][1]], f"{family.name}{rest} contradicts itself"
