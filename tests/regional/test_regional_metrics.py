from __future__ import annotations

from pathlib import Path

from common.host_counters import look
from regional.metrics import Metrics


def test_a_regional_shows_its_machine_and_what_it_counts(tmp_path: Path) -> None:
    metrics = Metrics()
    rounds = [1]
    metrics.host(lambda: look(tmp_path, 0.0))
    metrics.counter("attachments", "Streams that began", lambda: rounds[0])
    metrics.gauge("attached", "1 while attached", lambda: 1.0)
    rounds[0] += 1
    text = metrics.exposition().decode()
    assert "longshore_regional_attachments_total 2.0" in text
    assert "longshore_regional_attached 1.0" in text
    assert 'longshore_regional_host_cpu_seconds_total{mode="user"}' in text
    assert "longshore_regional_host_memory_total_bytes" in text
