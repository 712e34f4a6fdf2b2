"""Short lives that each make one behaviour flag of KVM speak, as operation vectors.

What a life answers depends on its flag; on others only where a comment says so. Counterpart:
`replay.fingerprint`, which tells flags from answers.
"""

from __future__ import annotations

from typing import Final

RAM = 0x4000_0000
END = RAM + (32 << 20)
L1, DT, CT, CQ, PROP, PEND, ITT = (
    RAM + o for o in (0xF0000, 0x100000, 0x200000, 0x300000, 0x400000, 0x500000, 0x600000)
)
VALID = 1 << 63
INDIRECT = 1 << 62


class Script:
    """Builds the lines of one life."""

    def __init__(self, cpus: int = 2, stride: int = 1) -> None:
        self.cpus = cpus
        self.stride = stride
        self.lines: list[str] = []
        self.cwriter = 0

    def do(self, letter: str, *values: int) -> Script:
        """Append one operation."""
        self.lines.append(" ".join([letter, *(f"{value:x}" for value in values)]))
        return self

    def lpis(self, cpu: int, *, pendbase: int | None = None, on: bool = True) -> Script:
        """Give a vCPU its tables and enable its LPIs."""
        attr = cpu * self.stride << 32
        self.do("G", attr | 0x70, PROP | 0xF)
        self.do("G", attr | 0x78, PEND + 0x2_0000 * cpu if pendbase is None else pendbase)
        return self.do("G", attr, 1) if on else self

    def tables(self, device: int = VALID | DT, collection: int = VALID | CT) -> Script:
        """Set the tables and the queue, and enable the ITS."""
        self.do("W", 0x100, device).do("W", 0x108, collection).do("W", 0x80, VALID | CQ)
        self.cwriter = 0
        return self.do("W", 0, 1)

    def base(self) -> Script:
        """Configuration of all LPIs on, every vCPU and the ITS ready."""
        self.do("D", 0, 2)
        for offset in range(0, 0x80, 8):
            self.do("M", PROP + offset, 0xA1A1_A1A1_A1A1_A1A1)
        for cpu in range(self.cpus):
            self.lpis(cpu)
        return self.tables()

    def command(self, *words: int) -> Script:
        """Put a command into the queue and run it."""
        self.do("Q", CQ + self.cwriter, *words, *([0] * (4 - len(words))))
        self.cwriter += 32
        return self.do("W", 0x88, self.cwriter)

    def mapd(self, device: int, itt: int = ITT, bits: int = 4, valid: int = 1) -> Script:
        """MAPD."""
        return self.command(8 | device << 32, bits - 1, valid << 63 | itt)

    def mapc(self, icid: int, target: int, valid: int = 1) -> Script:
        """MAPC."""
        return self.command(9, 0, valid << 63 | target << 16 | icid)

    def mapti(self, device: int, event: int, intid: int, icid: int) -> Script:
        """MAPTI."""
        return self.command(0xA | device << 32, event | intid << 32, icid)

    def one(self) -> Script:
        """Device 0, collection 0 on vCPU 0, event 0 as INTID 8192."""
        return self.base().mapd(0).mapc(0, 0).mapti(0, 0, 8192, 0)

    def back(self) -> Script:
        """Restore after a reset."""
        self.do("W", 0x80, VALID | CQ).do("W", 0x100, VALID | DT).do("W", 0x108, VALID | CT)
        return self.do("X", 2)

    def forged(self, dte: int, ite: int = 0) -> Script:
        """Restore tables with collection 0 on vCPU 0 and device 0 that the kernel never wrote."""
        self.do("M", CT, VALID).do("M", DT, VALID | dte).do("M", ITT, ite)
        return self.back()


def _cache() -> Script:
    """33 events on 2 vCPUs, whose cache would hold 32; vCPU 1 has no LPIs."""
    script = Script().base().do("G", 1 << 32, 0).mapd(0, bits=6).mapc(0, 0)
    for event in range(33):
        script.mapti(0, event, 8192 + event, 0).do("I", 0, event)
    script.mapc(0, 1)
    return script.do("I", 0, 0).do("I", 0, 32)


ITT_FIELD: Final = ITT >> 8 << 5
HIGH_BITS: Final = 0x1000  # GITS_BASER[15:12]: address bits [51:48]

LIVES: Final[dict[str, Script]] = {
    "ctrl_reset_supported": Script().do("W", 0x100, VALID | DT).do("X", 4).do("R", 0x100),
    # Hidden where baser_change_frees_list.
    "baser_invalid_frees_list": (
        Script().one().do("W", 0, 0).do("W", 0x100, DT).do("W", 0x100, VALID | DT)
    )
    .do("W", 0, 1)
    .do("I", 0, 0),
    "enable_requires_valid_tables": Script().do("W", 0, 1).do("R", 0),
    "baser_change_frees_list": (
        Script().one().do("W", 0, 0).do("W", 0x100, VALID | DT | 1).do("W", 0, 1).do("I", 0, 0)
    ),
    "movall_moves_source_only": (
        Script(3).one().mapc(1, 1).mapti(0, 1, 8193, 1).command(0xE, 0, 0, 2 << 16).do("V")
    ),
    "unknown_ctrl_attr_fails": Script().do("X", 9),
    "disable_lpis_retires_queued": (
        Script().one().do("I", 0, 0).command(4, 0).do("G", 0, 0).do("V")
    ),
    # Hidden where not disable_lpis_retires_queued.
    "disable_lpis_clears_pending_latch": Script().one().do("I", 0, 0).do("G", 0, 0).do("V"),
    "save_pending_rereads_each_table": (
        Script().one().mapc(1, 1).mapti(0, 1, 8193, 1).do("I", 0, 0).do("I", 0, 1).do("P")
    )
    .do("m", PEND + 0x400, 1)
    .do("m", PEND + 0x2_0400, 1),
    "translation_cache_entries_per_vcpu": _cache(),
    "lpis_walked_in_intid_order": (
        Script().base().mapd(0).mapc(0, 0).mapc(1, 1).mapti(0, 0, 8256, 0).mapti(0, 1, 8192, 1)
    )
    .do("I", 0, 0)
    .do("G", 1 << 32, 0)
    .do("G", 1 << 32 | 0x78, 0)
    .do("P")
    .do("m", PEND + 0x408, 1),
    "enable_lpis_visits_every_lpi": (Script().one().do("D", 0, 0).do("I", 0, 0).do("D", 0, 2))
    .do("G", 1 << 32, 0)
    .do("G", 1 << 32, 1)
    .do("V"),
    "mapd_unmap_clears_dte": (Script().base().mapd(0).do("X", 1).mapd(0, valid=0).do("m", DT, 1)),
    "discard_clears_ite": Script().one().do("X", 1).command(0xF, 0).do("m", ITT, 1),
    "restore_accepts_unmapped_collections": (
        Script().base().mapd(0).mapti(0, 0, 8192, 0).do("X", 1).do("X", 4).back()
    ),
    # Hidden where failed_restore_frees_state.
    "failed_itt_restore_frees_device": (
        Script().forged(ITT_FIELD, ite=100 << 16).do("M", DT, 0).do("X", 1).do("m", DT, 1)
    ),
    "mapti_requires_backed_ite": (
        Script().base().mapd(0, itt=END).mapc(0, 0).mapti(0, 0, 8192, 0).do("V")
    ),
    # DeviceID 65536 stands in a table of 9 pages.
    "restore_requires_reachable_entries": (
        Script().do("M", DT + 0x8_0000, VALID | ITT_FIELD).do("W", 0x100, VALID | DT | 8)
    ).do("X", 2),
    "restore_rejects_unreachable_collections": (
        Script().do("M", CT, VALID | 0xFFFF).do("W", 0x108, VALID | CT).do("X", 2)
    ),
    "failed_restore_frees_state": Script().one().do("X", 1).do("X", 2).do("I", 0, 0),
    # Kills the host where it is false.
    "save_zeroes_ite_without_collection": Script().one().mapc(0, 0, valid=0).do("X", 1),
    # Kills the host where not save_zeroes_ite_without_collection.
    "save_chains_past_zeroed_ites": (
        Script().one().mapc(1, 0).mapti(0, 1, 8193, 1).mapti(0, 2, 8194, 0).mapc(1, 0, valid=0)
    )
    .do("X", 1)
    .do("m", ITT, 3),
    "save_skips_unreachable_devices": (
        Script().base().do("W", 0, 0).do("M", L1, VALID | DT).tables(VALID | INDIRECT | L1)
    )
    .mapd(0)
    .do("M", L1, 0)
    .do("X", 1),
    "restore_rejects_wide_devices": Script().forged(ITT_FIELD | 31),
    "target_is_vcpu_id": (
        Script(2, stride=2).base().mapd(0).mapc(0, 2).mapti(0, 0, 8192, 0).do("I", 0, 0)
    ),
    "mapc_unmap_ignores_target": Script().one().mapc(0, 0x1FF, valid=0).do("I", 0, 0),
    "outer_cacheability_same_as_inner": Script().do("g", 0x74),
    "discard_requires_mapped_collection": (
        Script().base().mapd(0).mapti(0, 0, 8192, 0).command(0xF, 0).do("V")
    ),
    "failed_lpi_mapping_frees_it": (
        Script(1).do("D", 0, 2).lpis(0, pendbase=0).tables().mapd(0).mapc(0, 0)
    )
    .mapti(0, 0, 8192, 0)
    .do("V"),
    "addresses_have_52_bits": (
        Script(1).do("D", 0, 2).lpis(0).tables(VALID | DT | HIGH_BITS).mapd(0).mapc(0, 0)
    )
    .mapti(0, 0, 8192, 0)
    .do("V"),
    "save_skips_invalid_tables": (
        Script().base().mapc(0, 0).do("W", 0, 0).do("X", 4).do("M", CT, 5).do("X", 1)
    ).do("m", CT, 1),
    "restore_accepts_empty_and_full_tables": Script().do("W", 0x100, VALID | DT).do("X", 2),
    # Device 1 points past the end of a table of one page, where a valid entry stands.
    "restore_scan_stops_at_table_end": (
        Script(1)
        .do("M", DT + 8, VALID | 0x3FFF << 49 | ITT_FIELD)
        .do("M", DT + 8 * 0x4000, VALID | ITT_FIELD)
        .back()
        .do("X", 1)
    ),
    "pendbaser_ptz_reads_zero": (Script(1).lpis(0, on=False).do("G", 0x7C, 1 << 30).do("g", 0x7C)),
    "lpis_are_group1": Script().base().mapd(0).mapti(0, 0, 8192, 0).do("V"),
    "gic_implementation_revision": Script().do("g", 0),
    # Hidden where gic_implementation_revision is 2.
    "gicd_iidr_takes_new_revision": Script().do("D", 8, 0x4B00_243B).do("g", 0),
    "gicd_typer2_fixed_once_initialised": Script().do("D", 0xC, 1),
    # Reading vgic-state never ends on 6.12.
    "debugfs_hides_intids_above_16_bits": (
        Script(1).lpis(0).forged(ITT_FIELD, ite=65536 << 16).do("V")
    ),
    "debugfs_names_vcpu_index": (
        Script(2, stride=2).base().mapd(0).mapc(0, 1).mapc(1, 2).mapti(0, 0, 8192, 0)
    )
    .mapti(0, 1, 8193, 1)
    .do("V"),
    "lpi_invalidation_registers": (Script().one().do("M", PROP, 0).do("G", 0xA0, 8192).do("V")),
    # Kills the host where it is false and lpi_invalidation_registers is true.
    "invlpir_ignores_other_intids": Script(1).lpis(0).do("G", 0xA0, 3),
    "vmm_sees_gicr_typer_last": Script().do("g", 1 << 32 | 8),
}

# Needs two ITSes: with one, a pair of pairs that share a key cannot be mapped.
SILENT: Final = frozenset({"translation_cache_per_its"})
