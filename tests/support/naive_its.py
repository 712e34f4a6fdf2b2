"""A naive model of KVM's ITS, written for clarity: linux-6.1.192 and linux-7.2.13.

Written from the facts about KVM (its.md 3 and 12, docs/spec-notes.md), not from the model. It
counts no references and keeps no index: what can be derived is derived when it is asked for. An LPI
is alive while an event, the translation cache or a queue names it, so `sweep` looks at all three
after each step. A check that fails raises; only the VMM's accesses are here.
"""

from __future__ import annotations

from itertools import pairwise

EBUSY, EEXIST, EFAULT, EINVAL, ENODEV, ENXIO = -16, -17, -14, -22, -19, -6
VALID, INDIRECT, PTZ = 1 << 63, 1 << 62, 1 << 62
UNMAPPED = 0xFFFF_FFFF  # the target of a collection that no MAPC mapped
PAGE, IIDR = 0x1_0000, 0x4B00_043B
CONSTANT = {0x4: IIDR, 0x8: 0x1EF71, **dict.fromkeys(range(0x110, 0x140, 8), 0)}
CONSTANT |= dict.fromkeys(range(0xFFD0, 0x10000, 4), 0)
CONSTANT |= {0xFFD0: 0x40, 0xFFE0: 0x92, 0xFFE4: 0xB4, 0xFFE8: 0x3B}
CONSTANT |= {0xFFF0: 0x0D, 0xFFF4: 0xF0, 0xFFF8: 0x05, 0xFFFC: 0xB1}
NAME = {0x0: "CTLR", 0x80: "CBASER", 0x88: "CWRITER", 0x90: "CREADR"}
NAME |= {0x100: "BASER0", 0x108: "BASER1"}
NO_EVENT = {0x01: 0x010107, 0x04: 0x010507, 0x0C: 0x010C07, 0x0F: 0x010F07}


class Wrong(Exception):
    """A check that failed; `args[0]` is a 24-bit command error or -errno."""


def require(condition, error):
    if not condition:
        raise Wrong(error)


def bits(value, high, low):
    return value >> low & (1 << high - low + 1) - 1


def put(value, high, low, field=0):
    return value - (bits(value, high, low) << low) + (field << low)


def sanitised(value, inner, outer):
    """Take the memory attributes away that KVM does not want."""
    if bits(value, 11, 10) == 2:
        value = put(value, 11, 10, 1)
    if bits(value, inner + 2, inner) < 2:
        value = put(value, inner + 2, inner, 3)
    return put(value, outer + 2, outer) if bits(value, outer + 2, outer) > 1 else value


def table_place(baser):
    """Return address and bytes of the table that a GITS_BASER names."""
    return bits(baser, 47, 16) << 16 | bits(baser, 15, 12) << 48, (bits(baser, 7, 0) + 1) * PAGE


class NaiveIts:
    """One VM. It listens to the flags that the two kernels differ in, and to a few more."""

    def __init__(self, flags, vcpu_ids, slots):
        self.flags, self.vcpu_ids, self.slots = flags, list(vcpu_ids), list(slots)
        self.ram = {}  # address -> byte; zeros are left out
        self.reg = {"CTLR": 0, "CBASER": 0, "CWRITER": 0, "CREADR": 0,
                    "BASER0": 0x1907000000000600, "BASER1": 0x1C07000000000600}  # fmt: skip
        # Kernel lists, in the kernel's order. A DeviceID can be there twice: the first one counts.
        self.devices = []  # {"id", "itt", "bits", "events": {EventID: {"intid", "icid" or None}}}
        self.collections = {}  # ICID -> target
        self.cache = {}  # (DeviceID, EventID) -> INTID, the most recently used last
        self.lpis = {}  # INTID -> {"target", "pending", "enabled", "priority", "queued"}
        self.distributor_on, self.revision = False, 3
        self.propbaser, self.pendbaser = 0x580, [0x580 for _ in self.vcpu_ids]
        self.lpis_on = [False for _ in self.vcpu_ids]
        self.last_error = None  # what the last command came to; KVM drops it

    def do(self, operation, *args):
        """Carry out an operation: what it raises is its answer. Everything else is inside."""
        try:
            return getattr(self, operation)(*args) or 0
        except Wrong as wrong:
            return wrong.args[0]
        finally:
            self.sweep()

    def is_ram(self, gpa, size=1):
        ends = (gpa, gpa + size - 1)
        return all(any(b <= at < b + length for b, length in self.slots) for at in ends)

    def load(self, gpa, size=8):
        require(self.is_ram(gpa, size), EFAULT)
        return sum(self.ram.get(gpa + i, 0) << 8 * i for i in range(size))

    def store(self, gpa, value, size=8):
        require(self.is_ram(gpa, size), EFAULT)
        for i in range(size):
            self.ram[gpa + i] = bits(value, 8 * i + 7, 8 * i)
            if not self.ram[gpa + i]:
                del self.ram[gpa + i]

    def reach(self, offset):
        require(offset % (4 if offset < 8 or offset >= 0xFFD0 else 8) == 0, EINVAL)
        require(offset in NAME or offset in CONSTANT, ENXIO)

    def reg_read(self, offset):
        self.reach(offset)
        quiescent = self.reg["CREADR"] == self.reg["CWRITER"] and offset == 0
        return CONSTANT[offset] if offset in CONSTANT else self.reg[NAME[offset]] | quiescent << 31

    def reg_write(self, offset, value):
        self.reach(offset)
        require(offset != 0x4 or not bits(value, 15, 12), EINVAL)  # the only ABI revision is 0
        name, enabled = NAME.get(offset), self.reg["CTLR"]
        in_queue = bits(value, 19, 5) * 32 < (bits(self.reg["CBASER"], 7, 0) + 1) * 0x1000
        if name == "CTLR":
            self.write_ctlr(value & 1)
        elif name == "CBASER" and not enabled:
            self.reg.update(CBASER=put(sanitised(value, 59, 53), 15, 12), CREADR=0, CWRITER=0)
        elif name == "CWRITER" and in_queue:
            self.reg["CWRITER"] = bits(value, 19, 5) * 32
            self.run_queue()
        elif name == "CREADR":
            require(not enabled, EBUSY)
            require(in_queue, EINVAL)
            self.reg["CREADR"] = bits(value, 19, 5) * 32
        elif name in ("BASER0", "BASER1") and not enabled:
            self.write_baser(name, value)

    def write_ctlr(self, enable):
        valid = self.reg["CBASER"] & self.reg["BASER0"] & self.reg["BASER1"] & VALID
        if enable and not self.reg["CTLR"] and not valid:
            return
        self.reg["CTLR"] = enable
        self.cache = self.cache if enable else {}
        self.run_queue()

    def write_baser(self, name, value):
        new = put(put(put(value, 9, 8, 2), 52, 48, 7), 58, 56, 1 if name == "BASER0" else 4)
        new = sanitised(new if name == "BASER0" else put(new, 62, 62), 59, 53)
        changed, self.reg[name] = new != self.reg[name], new
        if changed if self.flags.baser_change_frees_list else not new & VALID:
            self.free_devices(self.devices if name == "BASER0" else [])
            self.free_collections(self.collections if name == "BASER1" else [])
            self.cache = {}  # empty already where only Valid counts: the ITS is disabled

    # -- redistributors and distributor

    def gicr_write(self, cpu, offset, value):
        require(0 <= cpu < len(self.vcpu_ids), EINVAL)
        high, low = (63, 32) if offset & 4 else (31, 0)
        if offset == 0 and value & 1 and not self.lpis_on[cpu]:
            self.lpis_on[cpu] = True
            self.take_pending_bits(cpu)
        elif offset == 0 and not value & 1 and self.lpis_on[cpu]:
            self.lpis_on[cpu], self.cache = False, {}
            for lpi in self.lpis.values():
                if lpi["queued"] == cpu:
                    lpi.update(queued=None, pending=False)
        elif offset in (0x70, 0x74) and not self.lpis_on[cpu]:
            new = sanitised(put(self.propbaser, high, low, value), 7, 56)
            self.propbaser = new & ~0xF8F0_0000_0000_0060
        elif offset in (0x78, 0x7C) and not self.lpis_on[cpu]:
            new = sanitised(put(self.pendbaser[cpu], high, low, value), 7, 56)
            self.pendbaser[cpu] = new & ~0xB8F0_0000_0000_F07F
        elif offset == 0xA0 and self.lpis_on[cpu] and value in self.lpis:  # INVLPIR
            self.read_config(value)
        elif offset == 0xB0 and self.lpis_on[cpu]:  # INVALLR
            self.read_configs_of(cpu)

    def gicr_read(self, cpu, offset):
        """Read CTLR, or half of PROPBASER or PENDBASER: there are no others here."""
        require(0 <= cpu < len(self.vcpu_ids), EINVAL)
        if offset == 0:
            return self.lpis_on[cpu] | (6 if self.revision >= 3 else 0)
        whole = self.propbaser if offset < 0x78 else self.pendbaser[cpu] & ~PTZ
        return bits(whole, 63, 32) if offset & 4 else bits(whole, 31, 0)

    def take_pending_bits(self, cpu):
        """EnableLPIs, 0 to 1: unless PTZ says that there are none. No RAM ends the walk."""
        every = self.flags.enable_lpis_visits_every_lpi
        for intid, lpi in [] if self.pendbaser[cpu] & PTZ else self.walk():
            place = self.pending_place(cpu, intid)
            if every or lpi["target"] == cpu:
                if not self.is_ram(place):
                    return
                if lpi["target"] == cpu:
                    lpi["pending"] = bool(self.load(place, 1) >> intid % 8 & 1)
                self.queue(lpi)

    def gicd_write(self, offset, value):
        """Write CTLR, IIDR or TYPER2."""
        if offset == 0x0:
            self.distributor_on = bool(value & 2)
        elif offset == 0x8:
            require(put(value, 15, 12) == IIDR and bits(value, 15, 12) in (2, 3), EINVAL)
            self.revision = bits(value, 15, 12)
        elif offset == 0xC:
            fixed = self.flags.gicd_typer2_fixed_once_initialised
            require(value == 0, EBUSY if fixed else EINVAL)

    # -- LPIs

    def pending_place(self, cpu, intid):
        return (bits(self.pendbaser[cpu], 51, 16) << 16) + intid // 8

    def walk(self):
        in_order = self.flags.lpis_walked_in_intid_order
        return sorted(self.lpis.items()) if in_order else list(self.lpis.items())

    def queue(self, lpi):
        """Queue an LPI on its target if it can be delivered; a queued one stays where it is."""
        ready = lpi["enabled"] and lpi["pending"] and self.distributor_on
        if ready and lpi["queued"] is None:
            lpi["queued"] = lpi["target"]

    def read_config(self, intid):
        place = (bits(self.propbaser, 51, 12) << 12) + intid - 8192
        if self.is_ram(place):
            config = self.load(place, 1)
            self.lpis[intid].update(enabled=bool(config & 1), priority=config & 0xFC)
            self.queue(self.lpis[intid])
        return self.is_ram(place)

    def read_configs_of(self, cpu):
        for intid, lpi in self.walk():
            if lpi["target"] == cpu:
                self.read_config(intid)

    def take_lpi(self, intid, target):
        """Bring an LPI to life, or take a live one over as it is."""
        if intid in self.lpis:
            return
        lpi = {"target": target, "pending": False, "enabled": False, "priority": 0, "queued": None}
        self.lpis[intid] = lpi
        require(self.read_config(intid), EFAULT)
        if target is not None:
            place = self.pending_place(target, intid)
            byte = self.load(place, 1)
            self.store(place, put(byte, intid % 8, intid % 8), 1)  # the bit is consumed
            lpi["pending"] = bool(byte >> intid % 8 & 1)
            self.queue(lpi)

    def sweep(self):
        """Forget the LPIs that nothing names any more."""
        named = {event["intid"] for device in self.devices for event in device["events"].values()}
        named |= set(self.cache.values())
        named |= {intid for intid, lpi in self.lpis.items() if lpi["queued"] is not None}
        self.lpis = {intid: lpi for intid, lpi in self.lpis.items() if intid in named}

    def live_lpis(self):
        """Return (INTID, target, flags, priority, queued) as debugfs shows them."""
        by_index, short = (
            self.flags.debugfs_names_vcpu_index,
            self.flags.debugfs_hides_intids_above_16_bits,
        )
        name = {None: -1} | {i: i if by_index else id_ for i, id_ in enumerate(self.vcpu_ids)}
        return [
            (intid, name[lpi["target"]], f"{lpi['pending']:d}00{lpi['enabled']:d}001", lpi["priority"],
             name[lpi["queued"]])
            for intid, lpi in self.walk()
            if intid < 0x1_0000 or not short
        ]  # fmt: skip

    def save_pending(self):
        for intid, lpi in self.walk():
            if lpi["target"] is not None:
                place = self.pending_place(lpi["target"], intid)
                byte = put(self.load(place, 1), intid % 8, intid % 8, int(lpi["pending"]))
                self.store(place, byte, 1)

    def find_device(self, device_id):
        return next((device for device in self.devices if device["id"] == device_id), None)

    def vcpu_of(self, target):
        """Return the index of the vCPU that a target names, None for none."""
        names = self.vcpu_ids if self.flags.target_is_vcpu_id else range(len(self.vcpu_ids))
        return list(names).index(target) if target in names else None

    def is_mapped(self, icid):
        return self.collections.get(icid, UNMAPPED) != UNMAPPED

    def mapped_vcpu(self, icid, error):
        require(self.is_mapped(icid), error)
        return self.vcpu_of(self.collections[icid])

    def events_of(self, icid):
        events = [event for device in self.devices for event in device["events"].values()]
        return [event for event in events if event["icid"] == icid]

    def entry_place(self, name, number):
        """Return where the entry of a DeviceID or ICID would stand, None where it cannot."""
        base, size = table_place(self.reg[name])
        if self.reg[name] & INDIRECT and number <= 0xFFFF:
            level1 = base + number // 8192 * 8
            if level1 >= base + size or not self.is_ram(level1) or not self.load(level1) & VALID:
                return None
            base, size, number = bits(self.load(level1), 51, 16) << 16, PAGE, number % 8192
        place = base + number * 8
        fits = number <= 0xFFFF and place < base + size
        return place if fits and self.is_ram(place) else None

    def free_devices(self, victims):
        """Drop devices, and the cache with each."""
        for victim in victims:
            self.devices = [device for device in self.devices if device is not victim]
            self.cache = {}

    def free_collections(self, icids):
        """Drop collections: their events stay, in no collection, for good."""
        for icid in list(icids):
            self.collections.pop(icid, None)
            for event in self.events_of(icid):
                event["icid"] = None

    # -- MSIs

    def signal_msi(self, device_id, event_id):
        """Return 1 delivered, 0 blocked, or -errno. A hit of the cache asks nobody."""
        try:
            if (device_id, event_id) not in self.cache:
                return self.trigger(device_id, event_id)
            return self.deliver(device_id, event_id, self.cache[device_id, event_id])
        except Wrong as wrong:
            return min(wrong.args[0], 0)

    def trigger(self, device_id, event_id):
        require(self.reg["CTLR"], EBUSY)
        device = self.find_device(device_id)
        event = device and device["events"].get(event_id)
        require(event, 0x010307)
        require(self.lpis_on[self.mapped_vcpu(event["icid"], 0x010307)], EBUSY)
        return self.deliver(device_id, event_id, event["intid"])

    def deliver(self, device_id, event_id, intid):
        """Cache a translation, as the last used one, and make the LPI pending."""
        old = self.cache.pop((device_id, event_id), intid)
        self.cache[device_id, event_id] = intid if self.flags.translation_cache_per_its else old
        limit = self.flags.translation_cache_entries_per_vcpu * len(self.vcpu_ids)
        if 0 <= limit < len(self.cache):
            del self.cache[next(iter(self.cache))]
        self.lpis[intid]["pending"] = True
        self.queue(self.lpis[intid])
        return 1

    # -- commands

    def run_queue(self):
        base, size = bits(self.reg["CBASER"], 51, 12), bits(self.reg["CBASER"], 7, 0) + 1
        while self.reg["CTLR"] and self.reg["CREADR"] != self.reg["CWRITER"]:
            place = (base << 12) + self.reg["CREADR"]
            if self.is_ram(place, 32):
                try:
                    self.run(*[self.load(place + 8 * i) for i in range(4)])
                    self.last_error = 0
                except Wrong as wrong:
                    self.last_error = wrong.args[0]
                self.sweep()
            self.reg["CREADR"] = (self.reg["CREADR"] + 32) % (size << 12)

    def run(self, dw0, dw1, dw2, dw3):
        opcode, device_id, event_id = bits(dw0, 7, 0), bits(dw0, 63, 32), bits(dw1, 31, 0)
        icid, target, valid = bits(dw2, 15, 0), bits(dw2, 47, 16), bits(dw2, 63, 63)
        device = self.find_device(device_id)
        event = device and device["events"].get(event_id)
        intid = event["intid"] if event else 0
        run = {
            0x01: lambda: self.movi(event, icid),
            0x03: lambda: self.trigger(device_id, event_id),
            0x04: lambda: self.lpis[intid].update(pending=False),  # CLEAR
            0x05: lambda: None,  # SYNC
            0x08: lambda: self.mapd(device_id, bits(dw1, 4, 0), bits(dw2, 51, 8) << 8, valid),
            0x09: lambda: self.mapc(icid, target, valid),
            0x0A: lambda: self.mapti(device, event_id, bits(dw1, 63, 32), icid),
            0x0B: lambda: self.mapti(device, event_id, event_id, icid),
            0x0C: lambda: require(self.read_config(intid), EFAULT),  # INV
            0x0D: lambda: self.read_configs_of(self.mapped_vcpu(icid, 0x010D09)),  # INVALL
            0x0E: lambda: self.movall(self.vcpu_of(target), self.vcpu_of(bits(dw3, 47, 16))),
            0x0F: lambda: self.discard(device, event_id),
        }
        require(opcode in run, ENODEV)
        require(event or opcode not in NO_EVENT, NO_EVENT.get(opcode))
        run[opcode]()

    def mapd(self, device_id, size, itt, valid):
        place = self.entry_place("BASER0", device_id)
        require(place is not None, 0x010801)
        require(not valid or size < 16, 0x010802)
        self.free_devices([device for device in self.devices if device["id"] == device_id][:1])
        if valid:
            self.devices.append({"id": device_id, "itt": itt, "bits": size + 1, "events": {}})
        elif self.flags.mapd_unmap_clears_dte:
            self.store(place, 0)

    def mapc(self, icid, target, valid):
        ignored = not valid and self.flags.mapc_unmap_ignores_target
        require(ignored or self.vcpu_of(target) is not None, 0x010902)
        if not valid:
            self.free_collections([icid])
            self.cache = {}
            return
        require(icid in self.collections or self.entry_place("BASER1", icid) is not None, 0x010903)
        self.collections[icid] = target
        for event in self.events_of(icid):
            self.lpis[event["intid"]]["target"] = self.vcpu_of(target)

    def event_fits(self, device, event_id):
        return event_id < 1 << device["bits"] and self.is_ram(device["itt"] + event_id * 8)

    def map_event(self, device, event_id, intid, icid):
        self.take_lpi(intid, self.vcpu_of(self.collections[icid]) if self.is_mapped(icid) else None)
        device["events"][event_id] = {"intid": intid, "icid": icid}

    def mapti(self, device, event_id, intid, icid):
        require(device, 0x010A04)
        require(self.event_fits(device, event_id), 0x010A05)
        require(8192 <= intid < 1 << min(bits(self.propbaser, 4, 0) + 1, 16), 0x010A06)
        if event_id in device["events"]:
            return
        known = icid in self.collections
        require(known or self.entry_place("BASER1", icid) is not None, 0x010903)
        self.collections.setdefault(icid, UNMAPPED)
        try:
            self.map_event(device, event_id, intid, icid)
        except Wrong:
            if not known:
                self.free_collections([icid])
            raise

    def movi(self, event, icid):
        self.mapped_vcpu(event["icid"], 0x010109)
        self.lpis[event["intid"]]["target"] = self.mapped_vcpu(icid, 0x010109)
        event["icid"], self.cache = icid, {}

    def movall(self, source, target):
        require(source is not None and target is not None, 0x010E01)
        if source != target:
            self.cache = {}
            for lpi in self.lpis.values():
                if lpi["target"] == source or not self.flags.movall_moves_source_only:
                    lpi["target"] = target

    def discard(self, device, event_id):
        self.mapped_vcpu(device["events"][event_id]["icid"], 0x010F07)
        del device["events"][event_id]
        self.cache = {}
        if self.flags.discard_clears_ite:
            self.store(device["itt"] + event_id * 8, 0)

    # -- device attributes of the ITS

    def ctrl(self, attr):
        known = {0: lambda: None, 1: self.save_tables, 2: self.restore_tables, 4: self.reset}
        require(attr in known or not self.flags.unknown_ctrl_attr_fails, ENXIO)
        known.get(attr, known[0])()

    def reset(self):
        """Of the BASERs only Valid goes; RAM, redistributors and queued LPIs stay."""
        for name in ("BASER0", "BASER1"):
            self.reg[name] &= ~VALID
        self.reg.update(CTLR=0, CBASER=0, CREADR=0, CWRITER=0)
        self.free_devices(self.devices)
        self.free_collections(self.collections)

    def save_tables(self):
        if self.reg["BASER0"] & VALID:
            # The list stays sorted. Of devices with one DeviceID each save turns the order round.
            self.devices.reverse()
            self.devices.sort(key=lambda device: device["id"])
            for index, device in enumerate(self.devices):
                self.save_device(device, self.devices[index + 1 :])
        if self.reg["BASER1"] & VALID:
            self.save_collections()

    def save_device(self, device, others):
        """Write the entries of the events that are mapped, then the device's."""
        skips, events = self.flags.save_skips_unreachable_devices, device["events"]
        place = self.entry_place("BASER0", device["id"])
        if place is None and skips:
            return
        require(place is not None, EINVAL)
        for event_id, following in pairwise([*sorted(events), None]):
            step = 0 if following is None else min(following - event_id, 0xFFFF)
            icid = events[event_id]["icid"]
            entry = 0 if icid is None else step << 48 | events[event_id]["intid"] << 16 | icid
            self.store(device["itt"] + event_id * 8, entry)
        ids = [other["id"] for other in others]
        ids = [i for i in ids if not skips or self.entry_place("BASER0", i) is not None]
        step = min(ids[0] - device["id"], 0x3FFF) if ids else 0
        self.store(place, VALID | step << 49 | device["itt"] >> 8 << 5 | device["bits"] - 1)

    def save_collections(self):
        """Write a packed list, ended by a zero unless it fills the table."""
        base, size = table_place(self.reg["BASER1"])
        entries = [VALID | target << 16 | icid for icid, target in self.collections.items()]
        for index, entry in enumerate(entries if len(entries) * 8 == size else [*entries, 0]):
            self.store(base + index * 8, entry)

    def restore_tables(self):
        """Add what RAM says to what is there. A failure frees what was live before, too."""
        try:
            self.restore_collections()
            self.restore_devices()
        except Wrong:
            self.free_collections(self.collections)
            raise

    def restore_collections(self):
        base, size = table_place(self.reg["BASER1"])
        for place in range(base, base + size if self.reg["BASER1"] & VALID else base, 8):
            entry = self.load(place)
            icid, target = bits(entry, 15, 0), bits(entry, 47, 16)
            if not entry & VALID:
                return
            require(target == UNMAPPED or self.vcpu_of(target) is not None, EINVAL)
            require(icid not in self.collections, EEXIST)
            require(self.entry_place("BASER1", icid) is not None, EINVAL)
            self.collections[icid] = target

    def restore_devices(self):
        base, size = table_place(self.reg["BASER0"])

        def restore_page(page, entry):
            if not entry & VALID:
                return 1
            return self.scan(bits(entry, 51, 16) << 16, PAGE, page * 8192, self.restore_device)

        restore = restore_page if self.reg["BASER0"] & INDIRECT else self.restore_device
        try:
            self.scan(base, size if self.reg["BASER0"] & VALID else 0, 0, restore)
        except Wrong:
            self.free_devices(self.devices)
            raise

    def scan(self, base, size, first, restore_entry):
        """Walk a table by the distances in its entries; 0: one said it was the last, 1: the end."""
        index = 0
        while index * 8 < size:
            entry = self.load(base + index * 8)
            step = restore_entry(first + index, entry) if entry else 1
            if step == 0:
                return 0
            index += step
            if not entry:  # of a run of zeros nothing comes: go to what is not zero or not RAM
                places = [at - at % 8 for at in self.ram] + [sum(slot) for slot in self.slots]
                places = [(at - base) // 8 for at in places if at >= base + index * 8]
                index = min(places, default=size)
        return 1

    def restore_device(self, device_id, entry):
        """Restore a device, be it there already or not; returns the distance to the next one."""
        if not entry & VALID:
            return 1
        size, itt = bits(entry, 4, 0), bits(entry, 48, 5) << 8
        require(size < 16 and self.entry_place("BASER0", device_id) is not None, EINVAL)
        device = {"id": device_id, "itt": itt, "bits": size + 1, "events": {}}
        self.devices.append(device)

        def restore_event(event_id, ite):
            intid, step, icid = bits(ite, 47, 16), bits(ite, 63, 48), bits(ite, 15, 0)
            if not intid:
                return 1
            require(intid >= 8192 and event_id + step < 2 << size, EINVAL)
            require(icid in self.collections and self.event_fits(device, event_id), EINVAL)
            self.map_event(device, event_id, intid, icid)
            return step

        self.scan(itt, 16 << size, 0, restore_event)
        return bits(entry, 62, 49)
