"""The metrics endpoint, scraped and read by Prometheus' own parser."""

import re
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence

import pytest

from curate.engine.events import Event, Listeners
from curate.engine.prometheus import CONTENT_TYPE, Metrics, exposition
from curate.engine.run_state import RunState
from curate.errors import CurateError
from tests.engine.stories import LABELS, START, story

parser = pytest.importorskip("prometheus_client.parser", reason="needs prometheus_client to read the metrics")


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Name and labels to value; a series that comes twice is an error."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def of(events: Sequence[Event]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return samples(exposition(RunState.of(events)))


def scrape(address: str) -> str:
    with urllib.request.urlopen(address, timeout=10) as answer:
        assert answer.status == 200 and answer.headers["Content-Type"] == CONTENT_TYPE
        return str(answer.read().decode())


def test_a_scrape_gives_the_state_of_the_run() -> None:
    with Metrics(0) as metrics:
        assert metrics.address.startswith("http://127.0.0.1:")
        for event in story(found=120, fail={(0, 150)}, stop_after=60):
            metrics.hear(event)
        found = samples(scrape(metrics.address))
    stage = (("folder", "read-0"), ("stage", LABELS[0]))

    def parts(state: str) -> float:
        return found["curate_stage_parts", tuple(sorted([*stage, ("phase", "part"), ("state", state)]))]

    assert (parts("total"), parts("found"), parts("done"), parts("failed")) == (200, 120, 60, 1)
    assert found["curate_stage_documents_in_total", stage] == pytest.approx(60 * 1003, abs=300)
    assert found["curate_stage_kept_ratio", stage] == pytest.approx(0.6, abs=0.001)
    assert found["curate_run_status", (("status", "running"),)] == 1
    assert found["curate_run_failed_parts", ()] == 1


def test_what_is_unknown_is_absent_and_known_later() -> None:
    assert not any("time_left" in name for name, _ in of(story(stop_after=2)))
    assert any(name == "curate_run_time_left_seconds" for name, _ in of(story(stop_after=20)))


def test_before_a_run_there_is_a_valid_answer() -> None:
    with Metrics(0) as metrics:
        found = samples(scrape(metrics.address))
    assert found["curate_run_status", (("status", "starting"),)] == 1


def test_ten_thousand_rules_are_a_few_series() -> None:
    events = story(stop_after=3)
    for part in range(1000):
        rules = {f"rule_{10 * part + n}": n + 1 for n in range(10)}
        fields = {"stage": LABELS[0], "part": part, "phase": "part", "records_in": 100, "rules": rules}
        events.append(Event.of("part_done", fields, now=START + 100 + part))
    found = of(events)
    rules_shown = [labels for name, labels in found if name == "curate_rule_documents_left_total"]
    assert len(rules_shown) == 21
    assert sum(value for (name, _), value in found.items() if name == "curate_rule_documents_left_total") >= 1000 * 55


def test_hostile_names_are_escaped() -> None:
    evil = 'a"} 1\ncurate_evil{x="\\'
    events = [Event.of("run_started", {"name": "x"}, now=1.0)]
    fields = {"stage": evil, "part": 0, "phase": "part", "records_in": 9, "rules": {evil: 3, "\ud800": 1}}
    line = Event.of("part_done", {**fields, "stage": evil.replace("\n", " ")}, now=2.0)
    events.append(Event(2.0, "part_done", fields, line.line))
    found = of(events)
    assert not any(name == "curate_evil" for name, _ in found)
    assert any(dict(labels).get("rule") == evil for _, labels in found)


def test_a_second_run_takes_the_place_of_the_first() -> None:
    with Metrics(0) as metrics:
        listeners = Listeners([metrics])
        for name in ("first", "second"):
            listeners.emit("run_started", name=name, fingerprint=name, stages=[])
            listeners.emit("run_done", documents=1, text_bytes=1, fingerprint=name)
        text = scrape(metrics.address)
    assert 'name="second"' in text and 'name="first"' not in text


def test_other_pages_are_not_found() -> None:
    with Metrics(0) as metrics, pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(metrics.address.replace("/metrics", "/etc/passwd"), timeout=10)


def test_scrapes_while_events_come_are_whole() -> None:
    events = story(parts=60)
    with Metrics(0) as metrics:
        feeding = threading.Thread(target=lambda: [metrics.hear(event) for event in events])
        feeding.start()
        done = []
        while feeding.is_alive() or not done:
            text = scrape(metrics.address)
            samples(text)
            done.append(sum(map(float, re.findall(r'state="done"} (\S+)', text))))
        feeding.join()
        last = samples(scrape(metrics.address))
    assert last["curate_run_status", (("status", "finished"),)] == 1


def test_a_port_that_is_taken_gets_a_sentence() -> None:
    with Metrics(0) as metrics:
        port = int(metrics.address.rpartition(":")[2].partition("/")[0])
        with pytest.raises(CurateError, match="cannot listen there"):
            Metrics(port)


@pytest.mark.parametrize("text", ["x", "", "99999", "a:b", "1:2:"])
def test_an_address_that_is_none_gets_a_sentence(text: str) -> None:
    from curate.commands.watching import _address

    with pytest.raises(CurateError, match="HOST"):
        _address(text)


def test_addresses() -> None:
    from curate.commands.watching import _address

    assert _address("9464") == ("127.0.0.1", 9464)
    assert _address("0.0.0.0:9464") == ("0.0.0.0", 9464)
