"""The fleet on paper: its figures are those that a person works out from the same measurements."""

from __future__ import annotations

import re

from tests.bench.scale import fleet, growth, run
from tests.bench.scale.fleet import Assumed, Costs
from tests.bench.scale.rates import BOOTS, TRACES, Life

COST = Costs(
    append=1e-6, read=2e-6, replay=3e-6, importing=20e-6,
    idle=Life("idle", 0, 0, 30.0, 0),
    busy=Life("busy", 60_000, 20_000, 10.0, 120_000),
    boots=[Life("one", 400, 50, 0.0, 2000, 1, 0.01), Life("two", 1400, 300, 0.0, 7000, 2, 0.02)],
    start=0.4,
)  # fmt: skip
FLEET = Assumed(vms=1000, vms_per_host=10, cores_per_host=10, boots_a_day=86.4, busy_share=0.5)


def cells(rows):
    return {row[0]: row[1:] for row in rows}


def test_boots():
    rows = cells(fleet.boots_only(COST, FLEET))
    assert rows["boots a second"][0] == "1.00"
    assert rows["events a boot"][0] == "600"
    assert rows["a day"][0] == "259 MB in 86,400 objects"  # 86,400 x 3,000 bytes
    assert rows["cores that judge them as they come"][0] == "0.0100"


def test_every_event():
    assert fleet.rate(COST, FLEET) == 1000 * (0.5 * 6000 + 0.6)
    rows = cells(fleet.everything(COST, FLEET))
    assert rows["bytes a second"][0] == "6 MB"
    assert rows["cores that replay all as it comes"][0] == "15"
    assert rows["objects a day"][0] == "12,000"  # half of the VMs, one an hour


def test_one_vm_by_its_interrupts():
    head, measured, thousand, *_ = fleet.interrupts(COST)
    assert measured[:2] == ["2,000", "6,000"]
    assert thousand == ["1,000", "3,000", "6", "0.3%", "6%", "2%"]
    assert len(head) == len(thousand)


def test_the_tightest_resource_comes_first():
    rows = fleet.bottleneck(COST, FLEET)
    assert rows[1][0] == "one recorder process of a KVM host"
    assert rows[1][1] == "63.01%"  # 30,006 events a second of a host, 21 us each
    parts = [float(row[1].rstrip("%")) for row in rows[1:]]
    assert parts == sorted(parts, reverse=True)


def test_growth_has_a_row_a_size_and_cpu_time_an_event():
    sample = {"cpu": 0.02, "seconds": 0.05, "peak_kib": 2048, "bytes": 30_000}
    found = {(task, 10_000): [sample, sample | {"cpu": 0.03}] for task in growth.TASKS}
    assert growth.table(found)[1][:6] == ["10,000", "2.000", "2.000", "2.000", "3.00", "2.0"]


def test_the_page_has_a_place_for_every_table():
    found = set(re.findall(r"\{\{(\w+)\}\}", run.TEMPLATE.read_text()))
    assert found == {
        "about", "growth", "lives", "assumed", "interrupts", "boots", "flight", "everything", "needs",
        "first",
    }  # fmt: skip
    assert all((TRACES / name).exists() for _, name in BOOTS)
