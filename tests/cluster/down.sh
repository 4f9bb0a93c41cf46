#!/usr/bin/env bash
# down.sh [ROOT] -- stop the cluster that up.sh started in ROOT.
# Idempotent; kills only recorded pids that still are what was recorded; removes
# our netns, veth and bridge. Logs stay in ROOT/log; PURGE=1 deletes ROOT too.
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
ROOT=$(realpath -m "${1:-${SLURM_TEST_ROOT:-${TMPDIR:-/tmp}/slurm-test}}")
TAG=st$(($(printf '%s' "$ROOT" | cksum | cut -d' ' -f1) % 100000000))
export SLURM_CONF=$ROOT/etc/slurm.conf

ours() { tr '\0' ' ' 2>/dev/null < "/proc/$1/cmdline" | grep -q -- "$2"; }
stop() { # stop PIDFILE WORD-IN-CMDLINE [SIGNAL]  (a zombie has an empty cmdline: counts as gone)
  local p; p=$(cat "$1" 2>/dev/null) && [ -n "$p" ] || return 0
  if ours "$p" "$2"; then
    kill -"${3:-TERM}" "$p" 2>/dev/null
    for _ in $(seq 50); do ours "$p" "$2" || break; sleep 0.1; done
    if ours "$p" "$2"; then kill -9 "$p" 2>/dev/null; fi
  fi
  rm -f "$1"
}
if [ -S "$ROOT/run/munge.sock" ]; then          # ports mode: jobs are plain host processes
  if grep -qs ports "$ROOT/run/mode"; then timeout 5 scancel --full --signal=KILL --state=RUNNING >/dev/null 2>&1; fi
fi
stop "$ROOT/run/slurmctld.pid" "$ROOT"
# Commands that a test had begun in the cluster's network (srun, mpiexec), if the test was killed.
if grep -qs netns "$ROOT/run/mode"; then
  for p in $(ip netns pids "${TAG}ctl" 2>/dev/null); do kill -9 "$p" 2>/dev/null; done
fi
# KILL: `unshare --fork` ignores TERM; with --kill-child its pid namespace dies with it
for f in "$ROOT"/run/node*.pid;     do if [ -e "$f" ]; then stop "$f" unshare KILL; fi; done
if grep -qs ports "$ROOT/run/mode"; then
  for f in "$ROOT"/run/slurmd.*.pid; do if [ -e "$f" ]; then stop "$f" "$ROOT"; fi; done
fi
stop "$ROOT/run/munged.pid" "$ROOT"
for n in $(ip netns list 2>/dev/null | awk '{print $1}' | grep -x "${TAG}n[0-9]*\|${TAG}ctl"); do
  ip netns del "$n" 2>/dev/null      # veth pairs and the bridge go with their namespaces
done
rm -rf "$ROOT/state" "$ROOT/spool" "$ROOT/run" "$ROOT/env.sh"
if [ "${PURGE:-0}" = 1 ]; then rm -rf "$ROOT"; fi
exit 0
