"""Sets of behaviour flags of kernel images, as data.

`measured`: the set answers the vectors recorded on that image as the image did, and was read in
that image's sources. `read`: put together from the first releases in `flags.FLAGS`.
No other module may ask for a profile's name or a version.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

from replay.model.kvm.flags import KvmFlags

Source = Literal["measured", "read"]

_NEWEST: Final = KvmFlags()

_V7_2: Final = replace(
    _NEWEST,
    baser_change_frees_list=False,
    movall_moves_source_only=False,
    save_skips_unreachable_devices=False,
    save_chains_past_zeroed_ites=False,
)
_V6_17: Final = replace(
    _V7_2,
    disable_lpis_clears_pending_latch=False,
    save_zeroes_ite_without_collection=False,
    restore_rejects_wide_devices=False,
    gicd_iidr_takes_new_revision=False,
)
_V6_13: Final = replace(
    _V6_17, unknown_ctrl_attr_fails=False, gicd_typer2_fixed_once_initialised=False
)
_V6_10: Final = replace(
    _V6_13,
    mapd_unmap_clears_dte=False,
    discard_clears_ite=False,
    invlpir_ignores_other_intids=False,
)
_V6_7: Final = replace(
    _V6_10,
    movall_moves_source_only=True,
    translation_cache_entries_per_vcpu=16,
    translation_cache_per_its=False,
    lpis_walked_in_intid_order=False,
    enable_lpis_visits_every_lpi=False,
    debugfs_hides_intids_above_16_bits=False,
)
_V6_1: Final = replace(
    _V6_7,
    target_is_vcpu_id=False,
    mapc_unmap_ignores_target=False,
    debugfs_names_vcpu_index=False,
)
_V5_19: Final = replace(_V6_1, restore_scan_stops_at_table_end=False)
_V5_13: Final = replace(
    _V5_19,
    mapti_requires_backed_ite=False,
    restore_requires_reachable_entries=False,
    restore_rejects_unreachable_collections=False,
    failed_restore_frees_state=False,
    gic_implementation_revision=2,
    lpi_invalidation_registers=False,
)
_V5_9: Final = replace(_V5_13, vmm_sees_gicr_typer_last=False)
_V5_7: Final = replace(_V5_9, outer_cacheability_same_as_inner=False)
_V5_4: Final = replace(
    _V5_7,
    pendbaser_ptz_reads_zero=False,
    save_pending_rereads_each_table=False,
    restore_accepts_unmapped_collections=False,
    discard_requires_mapped_collection=False,
    failed_lpi_mapping_frees_it=False,
)
_V5_1: Final = replace(_V5_4, translation_cache_entries_per_vcpu=0)
_V4_19: Final = replace(_V5_1, disable_lpis_retires_queued=False, addresses_have_52_bits=False)
_V4_15: Final = replace(_V4_19, lpis_are_group1=False, gic_implementation_revision=0)
_V4_14: Final = replace(
    _V4_15,
    ctrl_reset_supported=False,
    baser_invalid_frees_list=False,
    enable_requires_valid_tables=False,
    save_skips_invalid_tables=False,
    restore_accepts_empty_and_full_tables=False,
    unknown_ctrl_attr_fails=True,
)

_V6_1_176: Final = replace(
    _V6_1,
    mapd_unmap_clears_dte=True,
    discard_clears_ite=True,
    restore_rejects_wide_devices=True,
    gicd_iidr_takes_new_revision=True,
    invlpir_ignores_other_intids=True,
)

_V5_10_223: Final = replace(_V5_9, restore_scan_stops_at_table_end=True)

PROFILES: Final[dict[str, KvmFlags]] = {
    "linux-4.14": _V4_14,
    "linux-4.15": _V4_15,
    "linux-4.19": _V4_19,
    "linux-5.1": _V5_1,
    "linux-5.4": _V5_4,
    "linux-5.7": _V5_7,
    "linux-5.9": _V5_9,
    "linux-5.10.223": _V5_10_223,
    "linux-5.10.262": replace(_V5_10_223, mapd_unmap_clears_dte=True, discard_clears_ite=True),
    "linux-5.13": _V5_13,
    "linux-5.19": _V5_19,
    "linux-6.1": _V6_1,
    "linux-6.1.176": _V6_1_176,
    "linux-6.1.192": replace(
        _V6_1_176,
        disable_lpis_clears_pending_latch=True,
        save_zeroes_ite_without_collection=True,
    ),
    "linux-6.7": _V6_7,
    "linux-6.10": _V6_10,
    "linux-6.12.107": replace(
        _V6_13, restore_rejects_wide_devices=True, gicd_iidr_takes_new_revision=True
    ),
    "linux-6.12.117": replace(
        _NEWEST,
        save_chains_past_zeroed_ites=False,
        unknown_ctrl_attr_fails=False,
        gicd_typer2_fixed_once_initialised=False,
    ),
    "linux-6.13": _V6_13,
    "linux-6.17": _V6_17,
    "linux-7.2": _V7_2,
    "linux-7.2.13": replace(_NEWEST, save_chains_past_zeroed_ites=False),
    "linux-7.3": _NEWEST,
}

_NEEDS_TWO_ITSES: Final = frozenset({"translation_cache_per_its"})
# What a newer flag hides: the other value would have answered everything alike.
_HIDDEN_WHERE_BASER_CHANGE_FREES: Final = frozenset({"baser_invalid_frees_list"})
_HIDDEN_WHERE_FAILED_RESTORE_FREES: Final = frozenset({"failed_itt_restore_frees_device"})
_HIDDEN_WHERE_SAVE_CRASHES: Final = frozenset({"save_chains_past_zeroed_ites"})
_HIDDEN_AT_REVISION_2: Final = frozenset(
    {"gicd_iidr_takes_new_revision", "invlpir_ignores_other_intids"},
)

ASSUMED: Final[dict[str, frozenset[str]]] = {
    "linux-5.10.223": _NEEDS_TWO_ITSES | _HIDDEN_WHERE_SAVE_CRASHES | _HIDDEN_AT_REVISION_2,
    "linux-6.1.176": (
        _NEEDS_TWO_ITSES | _HIDDEN_WHERE_FAILED_RESTORE_FREES | _HIDDEN_WHERE_SAVE_CRASHES
    ),
    "linux-6.1.192": _NEEDS_TWO_ITSES | _HIDDEN_WHERE_FAILED_RESTORE_FREES,
    "linux-6.12.107": (
        _NEEDS_TWO_ITSES
        | _HIDDEN_WHERE_FAILED_RESTORE_FREES
        | _HIDDEN_WHERE_SAVE_CRASHES
        | {"debugfs_hides_intids_above_16_bits"}
    ),
    "linux-6.12.117": (
        _NEEDS_TWO_ITSES
        | _HIDDEN_WHERE_FAILED_RESTORE_FREES
        | _HIDDEN_WHERE_BASER_CHANGE_FREES
        | {"debugfs_hides_intids_above_16_bits"}
    ),
    "linux-7.2.13": (
        _NEEDS_TWO_ITSES | _HIDDEN_WHERE_FAILED_RESTORE_FREES | _HIDDEN_WHERE_BASER_CHANGE_FREES
    ),
}
"""Of a measured image: the flags that no recorded answer told, and that its sources told."""

SOURCES: Final[dict[str, Source]] = {
    name: "measured" if name in ASSUMED else "read" for name in PROFILES
}
