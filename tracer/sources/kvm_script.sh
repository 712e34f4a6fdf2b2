#!/bin/sh
# itstrace's recorder of the ITSes of an arm64 KVM host.
#
#   sh FILE          records to standard output until its input says `stop` or ends;
#                    `sample` on its input looks at the live LPIs at once
#   sh FILE clean    removes what recorders that were killed have left behind
#
# It runs as root, needs a shell, tracefs and debugfs, writes no file, and changes nothing but its own: two
# tracefs instances and one group of kprobes, all named itstrace_PID, which are removed at the end.
# It reads and stops no VM. `itstrace import` reads what it prints.
#
# shellcheck disable=SC2010,SC2013,SC2016 # links are read with ls; lists have no blanks; $retval is the kernel's
# shellcheck disable=SC2015,SC2317 # && and || as wanted; `end` is called by traps

MAX_ROWS=4096        # of one list in one sample
MAX_TEXT=900         # bytes of one marker: the kernel cuts at 1024
TOTAL_KB=262144      # of ring buffer, on all CPUs together
CPU_KB=${ITSTRACE_CPU_KB:-4096} # of ring buffer, on one CPU, at most
PATIENCE=${ITSTRACE_PATIENCE:-10} # seconds for what should end at once
NL='
'
GROUP=itstrace_$$
KALLSYMS=${ITSTRACE_KALLSYMS:-/proc/kallsyms}
ACCESSES='@ACCESSES@' # probes that stand together in the place of kvm:kvm_mmio
LAST_BYTE=@LAST_BYTE@ # of the stack that mr_ret shows, where a value can begin
REASON='end of input'

probes() {
	: # one line for each kprobe: kind, name, symbol, filter, what is not seen without it, fields
@PROBES@
}

refuse() {
	printf '#its error: %s\n' "$1"
	exit 2
}

find_kernel() {
	TRACEFS=
	for folder in ${ITSTRACE_TRACEFS:-/sys/kernel/tracing /sys/kernel/debug/tracing}; do
		[ -z "$TRACEFS" ] && [ -d "$folder/instances" ] && TRACEFS=$folder
	done
	DEBUGFS=${ITSTRACE_DEBUGFS:-/sys/kernel/debug}
	INSTANCE=$TRACEFS/instances/$GROUP
	WATCH=$TRACEFS/instances/${GROUP}_watch
}

check() {
	[ "${ITSTRACE_UID:-$(id -u)}" = 0 ] || refuse 'this must run as root: put sudo before it'
	[ -n "$TRACEFS" ] || refuse 'tracefs is not mounted: mount -t tracefs tracefs /sys/kernel/tracing'
	[ -d "$DEBUGFS/kvm" ] || refuse "$DEBUGFS/kvm is missing: mount -t debugfs debugfs /sys/kernel/debug, on a host with KVM"
	[ -d "$TRACEFS/events/kvm/kvm_mmio" ] || refuse 'this kernel has no tracepoint kvm:kvm_mmio: it is no KVM host'
	[ -e "$TRACEFS/kprobe_events" ] || refuse 'this kernel has no kprobe events (CONFIG_KPROBE_EVENTS)'
	[ "$(cat "$DEBUGFS/kprobes/enabled" 2>/dev/null)" != 0 ] ||
		refuse "kprobes are switched off: echo 1 > $DEBUGFS/kprobes/enabled"
}

# -- what killed recorders left

owner_lives() {
	ls -l "/proc/$1/fd" 2>/dev/null | grep -q "/instances/itstrace_$1/"
}

clean() {
	for folder in "$TRACEFS"/instances/itstrace_*; do
		left=${folder##*/itstrace_}
		left=${left%_watch}
		case $left in '' | *[!0-9]*) continue ;; esac
		[ -d "$folder" ] && ! owner_lives "$left" || continue
		end_readers "$left"
		remove "itstrace_$left"
	done
	# Probes without an instance: their recorder was killed between the two.
	for left in $(sed -n 's,^[pr][0-9]*:itstrace_\([0-9]*\)/.*,\1,p' "$TRACEFS/kprobe_events" | sort -u); do
		[ -d "$TRACEFS/instances/itstrace_$left" ] || remove_probes "itstrace_$left"
	done
}

end_readers() { # who still reads from a dead recorder's instances; ls tells of each process in turn
	ls -l /proc/[0-9]*/fd 2>/dev/null | grep -e '^/proc/' -e "/instances/itstrace_$1[_/]" |
		while IFS= read -r line; do
			case $line in
			/proc/*) reader=${line#/proc/} ;;
			*) kill -s KILL "${reader%%/*}" 2>/dev/null ;;
			esac
		done
}

remove() {
	for folder in "$TRACEFS/instances/$1" "$TRACEFS/instances/$1_watch"; do
		[ -d "$folder" ] || continue
		echo 0 >"$folder/events/enable"
		tries=0
		while ! rmdir "$folder" 2>/dev/null && [ $((tries += 1)) -lt "$PATIENCE" ]; do sleep 1; done
	done 2>/dev/null
	remove_probes "$1"
}

remove_probes() {
	for event in $(sed -n "s,^[pr][0-9]*:\($1/[^ ]*\) .*,\1,p" "$TRACEFS/kprobe_events"); do
		echo "-:$event" >>"$TRACEFS/kprobe_events"
	done 2>/dev/null
	if grep -q ":$1/" "$TRACEFS/kprobe_events" || [ -d "$TRACEFS/instances/$1" ]; then
		echo "itstrace: $1 in $TRACEFS could not be removed" >&2
	fi
}

# -- setting up

set_up() {
	mkdir "$INSTANCE" || refuse "$INSTANCE cannot be made"
	exec 5>"$INSTANCE/trace_marker" # owner_lives looks for it
	mkdir "$WATCH" || refuse "$WATCH cannot be made"
	exec 6>"$WATCH/trace_marker"
	cpus=$(grep -c '^cpu[0-9]' /proc/stat)
	kb=$((TOTAL_KB / cpus))
	[ "$kb" -lt "$CPU_KB" ] || kb=$CPU_KB
	for folder in "$INSTANCE" "$WATCH"; do
		echo mono >"$folder/trace_clock"
		echo 1 >"$folder/options/record-tgid"
		echo 1 >"$folder/options/context-info"
		for option in raw hex bin; do echo 0 >"$folder/options/$option"; done
		echo "$kb" >"$folder/buffer_size_kb"
		kb=64
	done
	SET='' MISSING=
	SYMBOLS=$(sed -n 's/^[^ ]* [tT] \(\(vgic\|kvm\|dispatch\)_[^ 	]*\)$/\1/p' "$KALLSYMS")
	probes
	[ -n "$SET" ] || refuse "this kernel takes no kprobe (lockdown?): $MISSING"
}

probe() { # KIND NAME SYMBOL FILTER BLIND FIELDS
	case $NL$SYMBOLS$NL in
	*"$NL$3$NL"*) ;;
	*"$NL$3."*)
		clone=${SYMBOLS#*"$3".}
		missing "$3" "it has $3.${clone%%"$NL"*}, whose arguments may differ" "$5"
		return
		;;
	*)
		missing "$3" 'this kernel does not have it' "$5"
		return
		;;
	esac
	if ! echo "$1:$GROUP/$2 $3 $6" >>"$TRACEFS/kprobe_events"; then
		missing "$3" 'the kernel refuses the probe' "$5"
		return
	fi 2>/dev/null
	SET="$SET $2 "
	[ -z "$4" ] || echo "$4" >"$INSTANCE/events/$GROUP/$2/filter"
}

missing() {
	MISSING="$MISSING#its missing: $1 $3 ($2)$NL"
}

heading() {
	headline stream 1
	headline release "$(uname -r)"
	headline version "$(cat /proc/version)"
	headline clock mono
	headline cpus "$cpus"
	headline group "$GROUP"
	printf '%s' "$MISSING"
	for folder in "$DEBUGFS"/kvm/*-*/; do
		[ -d "$folder" ] && describe headline "$(basename "$folder")"
	done
}

# -- what VMs are there

describe() { # HOW PID-FD: says which process it is, its threads, its command line
	tgid=$(tgid_of "$2")
	bases=
	for folder in "$DEBUGFS/kvm/$2"/vgic-its-state@*; do
		[ -e "$folder" ] && bases=$bases,${folder##*@}
	done
	"$1" vm "$2${tgid:+ tgid=$tgid}${bases:+ its=${bases#,}}"
	[ -n "$tgid" ] || return 0
	threads=$tgid
	for folder in "/proc/$tgid/task"/[0-9]*; do
		[ -d "$folder" ] && threads="$threads ${folder##*/}"
		[ ${#threads} -lt "$MAX_TEXT" ] || { "$1" threads "$threads"; threads=$tgid; }
	done
	"$1" threads "$threads"
	case " $NAMED " in *" $tgid "*) return 0 ;; esac
	NAMED="$NAMED $tgid"
	line=$(tr '\000' ' ' <"/proc/$tgid/cmdline" | tr -cd '\040-\176' | cut -c "1-$MAX_TEXT")
	[ -z "$line" ] || "$1" command "$tgid $line"
} 2>/dev/null # a VMM may end meanwhile

headline() { # KEY TEXT
	printf '#its %s: %s\n' "$1" "$2"
}

tgid_of() {
	sed -n 's/^Tgid:[^0-9]*//p' "/proc/${1%%-*}/status" 2>/dev/null
}

# -- samples

mark() { # KEY TEXT: one write, one marker
	printf 'its: %s %s\n' "$1" "$2" >&5
}

tell() { # the watcher
	printf 'its: %s\n' "$1" >&6
}

watch() { # samples when an attribute that resets, saves or restores has returned, and when told
	begun='' reading='' compared=
	read -r reader # our dd: trace_pipe itself is not for a shell's read, which polls before each byte
	trap 'kill "$reader"; exit' TERM
	while IFS= read -r line; do
		case $line in
		*': its: '*)
			sample_all '' "${line##*: its: }"
			case $line in *': its: end') break ;; esac
			;;
		*': mr: '*)
			who "$line"
			reading="$thread ${line##* data=0x????????}"
			;;
		*': mr_ret: '*)
			who "$line"
			case $compared$reading in "$thread "*) compare "${reading#* }" "${line##* sp=0x????????}" ;; esac
			;;
		*': create: '*)
			who "$line"
			for vm in $(vms_of "$tgid"); do describe mark "$vm"; done
			;;
		*': set_attr: '*)
			who "$line"
			case $line in
			*' attr=0x1 '*) begun="$begun $thread:save" ;;
			*' attr=0x2 '*) begun="$begun $thread:restore" ;;
			*' attr=0x4 '*) begun="$begun $thread:reset" ;;
			esac
			;;
		*': set_attr_ret: '*)
			who "$line"
			case "$begun " in
			*" $thread:"*)
				what=${begun##*" $thread:"}
				what=${what%% *}
				begun="${begun%%" $thread:"*}${begun##*" $thread:$what"}"
				sample_all "$tgid" "$what"
				;;
			esac
			;;
		esac
	done
	kill "$reader"
}

compare() { # DATA SP...: the last digits of where a first read's value is, and of the stack that is shown
	stack=${2%%[!0-9a-f]*}
	case $1,$stack in ,* | *, | *[!0-9a-f,]*) return ;; esac
	compared=1
	for event in mr mr_ret; do echo 0 >"$WATCH/events/$GROUP/$event/enable"; done
	above=$((0x$1 - 0x$stack))
	if [ "$above" -ge 0 ] && [ "$above" -le "$LAST_BYTE" ] && [ $((above % 8)) -eq 0 ]; then
		echo 0 >"$INSTANCE/events/kvm/kvm_mmio/enable"
		mark note "reads are seen at $above: from here on no other device is recorded"
	else
		mark note "reads are not seen at $above: all devices' reads are recorded"
	fi
}

who() { # of "TASK-TID (TGID) [CPU] ...": the two numbers
	thread=${1%\[*}
	tgid=${thread##*\(}
	tgid=${tgid%%\)*}
	tgid=${tgid##*[!0-9]}
	thread=${thread%\(*}
	thread=${thread##*-}
	thread=${thread%%[!0-9]*}
}

sample_all() { # TGID TRIGGER
	for vm in $(vms_of "$1"); do sample "$vm" "$2"; done
}

vms_of() { # TGID: the VMs of that process, or all when it has none that is known
	all='' its=''
	for folder in "$DEBUGFS"/kvm/*-*/; do
		[ -d "$folder" ] || continue
		vm=${folder%/}
		vm=${vm##*/}
		all="$all $vm"
		[ -n "$1" ] && [ "$(tgid_of "$vm")" = "$1" ] && its="$its $vm"
	done
	echo "${its:-$all}"
}

sample() { # PID-FD TRIGGER
	number=$((number + 1)) rows=0 skipped=0 lists=0 enabled='' vcpus=0
	mark sample "$number begin $1 $2"
	describe mark "$1"
	if lines=$(grep -E '^(enabled:|VCPU | *LPI )' "$DEBUGFS/kvm/$1/vgic-state" 2>/dev/null); then
		lists=1
		IFS=$NL
		for row in $lines; do
			case $row in
			enabled:*) enabled=${row##*[!0-9]} ;;
			VCPU*) vcpus=$((vcpus + 1)) ;;
			*) row lpi "$row" ;;
			esac
		done
		unset IFS
		mark sample "$number dist enabled=$enabled vcpus=$vcpus"
	fi
	for folder in "$DEBUGFS/kvm/$1"/vgic-its-state@*; do
		[ -e "$folder" ] && lines=$(cat "$folder" 2>/dev/null) || continue
		lists=$((lists | 2))
		mark sample "$number base ${folder##*@}"
		IFS=$NL
		for row in $lines; do row its "$row"; done
		unset IFS
	done
	mark sample "$number end rows=$rows skipped=$skipped lists=$lists"
}

row() {
	if [ "$rows" -lt "$MAX_ROWS" ]; then
		rows=$((rows + 1))
		mark sample "$number $1 $2"
	else
		skipped=$((skipped + 1))
	fi
}

# -- running

start() {
	number=0
	echo 'group==4 && (attr==1 || attr==2 || attr==4)' >"$WATCH/events/$GROUP/set_attr/filter"
	for event in create set_attr set_attr_ret; do echo 1 >"$WATCH/events/$GROUP/$event/enable"; done
	echo 0 >"$INSTANCE/tracing_on" # so that all begin at once
	echo 1 >"$INSTANCE/events/$GROUP/enable"
	if accesses_set; then
		# Until a first read has shown that its value can be seen: `compare`. 1 is a read's value.
		echo 'type==1' >"$INSTANCE/events/kvm/kvm_mmio/filter"
		for event in mr mr_ret; do echo 1 >"$WATCH/events/$GROUP/$event/enable"; done
	fi
	echo 1 >"$INSTANCE/events/kvm/kvm_mmio/enable"
	echo 1 >"$INSTANCE/tracing_on"
	pump &
	PUMP=$!
	{ sh -c 'echo $PPID'; drain "$WATCH"; } | watch >/dev/null &
	WATCHER=$!
	tell start
	# `who` comes at each switch to a vCPU, and once for each VM is enough. New VMs' other records tell.
	[ -z "$(vms_of '')" ] || sleep 1
	echo 0 >"$INSTANCE/events/$GROUP/who/enable"
}

accesses_set() { # all of them; else none is wanted: all devices' accesses are recorded
	for wanted in $ACCESSES; do
		case $SET in *" $wanted "*) continue ;; esac
		for probe in $ACCESSES; do
			case $SET in *" $probe "*) echo 0 >"$INSTANCE/events/$GROUP/$probe/enable" ;; esac
		done
		return 1
	done
}

drain() { # dd, as a cat that splices keeps the pipe's lock while it waits: nobody could read from the pipe
	exec dd if="$1/trace_pipe" bs=64k 2>/dev/null 5>&- 6>&-
}

pump() { # from here to the end, nothing else writes to standard output
	drain "$INSTANCE" &
	reader=$!
	trap 'kill "$reader" 2>/dev/null' TERM
	wait "$reader"
	kill -s TERM $$ 2>/dev/null # when nobody reads any more; ignored when it ends as it should
}

listen() {
	while IFS= read -r word; do
		case $word in
		sample) tell request ;;
		stop)
			REASON=stop
			break
			;;
		esac
	done
	finish
}

finish() {
	trap '' INT TERM HUP
	trap - EXIT
	tell end
	wait_for "$WATCHER"
	echo 0 >"$INSTANCE/events/enable"
	mark note 'the recording ends'
	echo 0 >"$INSTANCE/tracing_on" # makes trace_pipe end once it is read to its end
	wait_for "$PUMP"
	counts=$(lost; missed)
	exec 5>&- 6>&-
	remove "$GROUP"
	[ -z "$counts" ] || printf '%s\n' "$counts"
	printf '#its end: %s\n' "$REASON"
	exit 0
}

wait_for() { # PID
	(
		sleep "$PATIENCE"
		kill "$1"
	) >/dev/null 2>&1 5>&- 6>&- &
	limit=$!
	wait "$1"
	kill -s KILL "$limit" 2>/dev/null # TERM is ignored by now
}

lost() {
	for folder in "$INSTANCE"/per_cpu/cpu*; do
		overrun=$(sed -n 's/^overrun: //p' "$folder/stats")
		dropped=$(sed -n 's/^dropped events: //p' "$folder/stats")
		printf '#its lost: cpu %s overrun %s dropped %s\n' "${folder##*/cpu}" "$overrun" "$dropped"
	done
}

missed() { # kprobe_profile lists names without groups, in the order of kprobe_events
	grep -n ":$GROUP/" "$TRACEFS/kprobe_events" | while IFS=: read -r at _; do
		sed -n "${at}s/^ *\([^ ]*\) *[0-9]* *\([1-9][0-9]*\)\$/#its missed: \1 \2/p" "$TRACEFS/kprobe_profile"
	done
}

end() { # of a signal or a mishap, at any point
	REASON=$1
	trap - EXIT
	if [ -n "$PUMP" ]; then finish; fi
	exec 5>&- 6>&-
	remove "$GROUP"
	exit 2
}

main() {
	find_kernel
	check
	clean
	[ "$1" = clean ] && exit 0
	PUMP='' NAMED=''
	trap 'end "ended early"' EXIT
	trap 'end SIGINT' INT
	trap 'end SIGTERM' TERM
	trap 'end SIGHUP' HUP
	set_up
	heading
	start
	listen
}

main "$@"
