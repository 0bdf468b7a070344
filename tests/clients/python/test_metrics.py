"""Prometheus' own parser reads /metrics of a running server with the demo model (SOSTENUTO_URL)."""

import json
import os
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

URL = os.environ["SOSTENUTO_URL"]


def scrape():
    with urllib.request.urlopen(f"{URL}/metrics", timeout=10) as response:
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        return {family.name: family for family in text_string_to_metric_families(response.read().decode())}


def total(families, name, **labels):
    samples = families[name].samples
    return sum(s.value for s in samples if s.name in (name, f"{name}_total") and labels.items() <= s.labels.items())


def test_every_line_belongs_to_a_family_and_counts_follow_an_answer():
    before = scrape()
    assert all(family.type != "unknown" for family in before.values())
    body = {"messages": [{"role": "user", "content": "What is Sostenuto?"}], "max_tokens": 3}
    request = urllib.request.Request(
        f"{URL}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        usage = json.load(response)["usage"]
    after = scrape()
    grown = {
        name: total(after, name) - total(before, name)
        for name in ("vllm:prompt_tokens", "vllm:generation_tokens", "vllm:request_success")
    }
    assert grown == {
        "vllm:prompt_tokens": usage["prompt_tokens"],
        "vllm:generation_tokens": 3,
        "vllm:request_success": 1,
    }


def test_buckets_of_histograms_are_cumulative_and_end_at_their_count():
    histograms = [family for family in scrape().values() if family.type == "histogram"]
    assert histograms
    for family in histograms:
        buckets = [sample for sample in family.samples if sample.name.endswith("_bucket")]
        values = [sample.value for sample in buckets]
        assert values == sorted(values), family.name
        assert buckets[-1].labels["le"] == "+Inf"
        assert [values[-1]] == [s.value for s in family.samples if s.name.endswith("_count")], family.name
