#!/usr/bin/env bash
# up.sh -- a real, throw-away, single-machine SLURM cluster for tests.
#
#   up.sh [ROOT]                start (idempotent: a live cluster is left alone)
#   . ROOT/env.sh               then: sinfo, sbatch, srun, scancel, scontrol ...
#   down.sh [ROOT]              stop everything this script started
#
# Needs root and only Debian packages; no systemd, DNS, cgroups, ssh or database:
#   apt-get install -y --no-install-recommends slurm-wlm munge iproute2 util-linux procps libpmix-dev
# (libpmix-dev is for srun --mpi=pmix, which loads the library by the name that only it brings)
# Everything lives in ROOT: nothing under /etc, /run or /var is read or written
# (only the names in /run/netns, removed again by down.sh). The bridge, the
# controller and the nodes are all in network namespaces made here: no address of
# the cluster exists in the machine's own network. env.sh puts wrappers for sbatch,
# srun, sinfo ... first in PATH that enter the controller's namespace; `in-cluster
# CMD` does the same for any command (mpiexec with hosts node1,node2, for example).
#
# MODE=netns (default where allowed): every virtual node is one slurmd inside its
# own kernel namespaces:
#   net   own IP on a veth + bridge     uts  own hostname: node1, node2, ...
#   mount own /dev/shm, /etc/hosts      ipc, pid  own /proc; the node dies as a unit
# so MPI sees several *different hosts* and really talks TCP between them
# (no shared memory, no CMA), although it is one machine.
# MODE=ports (unprivileged container): several `slurmd -N nodeX` on one host name,
# told apart by port only. SLURM sees 4 nodes, MPI sees one host; `--mpi=pmix`
# over several nodes collides there, use pmi2 or mpiexec.
#
# Knobs (environment):  NODES=4  CPUS=4 (per node; may exceed the real cores)
#   MODE=auto|netns|ports  TIMEOUT=60  KILLWAIT=5  MPIDEFAULT=none  LOST=60 (seconds after
#     which a silent node is down)
#   RATE= (of each node's link, each way, as tc writes it: 1gbit; default: what the machine can)
#   SUBNET=10.77.x  PORTBASE=1xxxx   (default: derived from ROOT, so that several
#                                     clusters with different ROOTs can coexist)
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH

ROOT=$(realpath -m "${1:-${SLURM_TEST_ROOT:-${TMPDIR:-/tmp}/slurm-test}}")
RATE=${RATE:-}
NODES=${NODES:-4}; CPUS=${CPUS:-4}; MODE=${MODE:-auto}; TIMEOUT=${TIMEOUT:-60}
SUM=$(printf '%s' "$ROOT" | cksum | cut -d' ' -f1)
TAG=st$((SUM % 100000000))             # prefix of our bridge, veth and netns names
SUBNET=${SUBNET:-10.77.$((SUM % 200 + 20))}
PORTBASE=${PORTBASE:-$((17000 + SUM % 200 * 20))}
HERE=$(cd "$(dirname "$0")" && pwd)
HOST=$(hostname -s)
T0=${EPOCHREALTIME/./}

say() { printf 'cluster: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
[ "$(id -u)" = 0 ] || die "must run as root"
for c in munged slurmctld slurmd sinfo ip unshare nsenter pgrep; do
  command -v $c >/dev/null || die "missing '$c': apt-get install -y --no-install-recommends slurm-wlm munge iproute2 util-linux procps libpmix-dev"
done
[ ${#ROOT} -le 80 ] || die "ROOT is too long (a unix socket path holds 107 bytes)"

# --- already up? then nothing to do; half dead? then clean up first ----------
# shellcheck source=/dev/null
if [ -f "$ROOT/env.sh" ] && ( . "$ROOT/env.sh"; timeout 5 "$ROOT/bin/sinfo" -h >/dev/null 2>&1 ); then
  say "already up in $ROOT"; exit 0
fi
"$HERE/down.sh" "$ROOT" >/dev/null 2>&1 || true

# munged refuses group/world-writable parent directories (a sticky /tmp is fine)
umask 022
rm -rf "${ROOT:?}"/{run,log,state,spool,bin,etc,env.sh}
mkdir -p "$ROOT"/{run,log,state,spool,bin,etc,nodetmp}

# --- namespaces allowed here? -------------------------------------------------
if [ "$MODE" = auto ]; then
  if unshare --net --mount --uts --ipc --pid --fork \
       ip link add ${TAG}p type veth peer name ${TAG}q 2>/dev/null; then
    MODE=netns
  else
    MODE=ports
  fi
fi
if [ "$MODE" = netns ]; then CTLADDR=$SUBNET.254; else CTLADDR=127.0.0.1; fi
echo "$MODE $NODES" > "$ROOT/run/mode"

# --- munge with its own key and socket ------------------------------------------
dd if=/dev/urandom of="$ROOT/etc/munge.key" bs=128 count=1 status=none
chmod 400 "$ROOT/etc/munge.key"
munged --force --key-file="$ROOT/etc/munge.key" --socket="$ROOT/run/munge.sock" \
  --pid-file="$ROOT/run/munged.pid" --log-file="$ROOT/log/munged.log" \
  --seed-file="$ROOT/state/munge.seed" --num-threads=2

# --- configuration ----------------------------------------------------------------
export SLURM_CONF=$ROOT/etc/slurm.conf
{
cat <<CONF
ClusterName=test
SlurmctldHost=$HOST($CTLADDR)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# cred_expire: a requeued job starts only after its old credential has expired;
# the default of 120 s makes every requeue test wait two minutes.
AuthInfo=socket=$ROOT/run/munge.sock,cred_expire=5
SlurmctldPort=$PORTBASE
SlurmdPort=$((PORTBASE + 1))
StateSaveLocation=$ROOT/state
SlurmdSpoolDir=$ROOT/spool/%n
SlurmctldPidFile=$ROOT/run/slurmctld.pid
SlurmdPidFile=$ROOT/run/slurmd.%n.pid
SlurmctldLogFile=$ROOT/log/slurmctld.log
SlurmdLogFile=$ROOT/log/slurmd.%n.log
SlurmctldDebug=info
SlurmdDebug=info
MailProg=/bin/true
# no cgroups, no CPU binding: works in a sandbox and allows oversubscription
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=${MPIDEFAULT:-none}
# no slurmdbd, hence no sacct: finished jobs are listed in log/jobcomp.log
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$ROOT/log/jobcomp.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=5,bf_interval=5
# believe the CPU count written below, not what the machine has
SlurmdParameters=config_overrides
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=${LOST:-60}
InactiveLimit=0
KillWait=${KILLWAIT:-5}
MinJobAge=600
JobRequeue=1
PropagateResourceLimitsExcept=MEMLOCK
CONF
for i in $(seq "$NODES"); do
  if [ "$MODE" = netns ]; then where="NodeAddr=$SUBNET.$i"
  else where="NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((PORTBASE + 1 + i))"; fi
  echo "NodeName=node$i $where CPUs=$CPUS Boards=1 SocketsPerBoard=1 CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=1000 State=UNKNOWN"
done
echo "PartitionName=debug Nodes=ALL Default=YES MaxTime=60 DefaultTime=5 State=UP"
} > "$SLURM_CONF"

# slurmd 22.05 loads a cgroup plugin even when nothing uses it, and its autodetection
# kills slurmd where /sys/fs/cgroup is no mount. Naming v1 skips the detection.
printf 'CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n' > "$ROOT/etc/cgroup.conf"

# srun --mpi=pmix makes /tmp/spmix_appdir_<uid>_<step> on each node; the virtual nodes
# share /tmp, so the second one fails with EEXIST. Use a directory over which each
# node mounts a tmpfs of its own (below).
echo "PMIxCliTmpDirBase=$ROOT/nodetmp" > "$ROOT/etc/mpi.conf"

{ echo "127.0.0.1 localhost"; echo "$CTLADDR $HOST"
  if [ "$MODE" = netns ]; then for i in $(seq "$NODES"); do echo "$SUBNET.$i node$i"; done; fi
} > "$ROOT/etc/hosts"

# --- what a test's shell sources -----------------------------------------------------
cat > "$ROOT/env.sh" <<ENV
export SLURM_CONF=$SLURM_CONF
export SLURM_TEST_ROOT=$ROOT SLURM_TEST_MODE=$MODE SLURM_TEST_TAG=$TAG SLURM_TEST_SUBNET=$SUBNET
case :\$PATH: in *:$ROOT/bin:*) ;; *) export PATH=$ROOT/bin:\$PATH;; esac
# Open MPI in this toy only: it refuses root, and it would bind the first rank of
# *every* virtual node to the same physical core 0 (v5: PRTE_*, v4: OMPI_*).
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
export PRTE_MCA_hwloc_default_binding_policy=none OMPI_MCA_hwloc_base_binding_policy=none
ENV
# in-cluster CMD...: run CMD where the cluster's addresses exist; inside a job, just run it
cat > "$ROOT/bin/in-cluster" <<'WRAP'
#!/usr/bin/env bash
if [ "${SLURM_TEST_MODE:-}" = netns ] && [ -z "${SLURM_JOB_ID:-}" ]; then
  exec nsenter --net="/run/netns/${SLURM_TEST_TAG}ctl" -- "$@"
fi
exec "$@"
WRAP
chmod +x "$ROOT/bin/in-cluster"
# Tianhe spells the commands yh*: same programs here, so both spellings can be tested
for c in sbatch srun salloc squeue sinfo scancel scontrol \
         yhbatch:sbatch yhrun:srun yhalloc:salloc yhqueue:squeue yhq:squeue yhinfo:sinfo \
         yhi:sinfo yhcancel:scancel yhcontrol:scontrol; do
  printf '#!/bin/sh\nexec "%s/bin/in-cluster" "%s" "$@"\n' "$ROOT" "$(command -v "${c#*:}")" > "$ROOT/bin/${c%:*}"
  chmod +x "$ROOT/bin/${c%:*}"
done
# nsh HOST CMD: an rsh/ssh stand-in for MPI launchers outside SLURM (netns mode)
cat > "$ROOT/bin/nsh" <<'NSH'
#!/usr/bin/env bash
# nsh HOST CMD... -- run CMD inside virtual node HOST. As an MPI remote agent:
#   in-cluster mpiexec -launcher ssh -launcher-exec `command -v nsh` -hosts node1,node2 -n 2 -ppn 1 ...
#   in-cluster mpirun --prtemca plm_ssh_agent `command -v nsh` --host node1,node2 ...   (Open MPI 5)
#   in-cluster mpirun --mca     plm_rsh_agent `command -v nsh` --host node1,node2 ...   (Open MPI 4)
while [[ ${1:-} == -* ]]; do case $1 in -l|-o|-p|-i) shift 2;; *) shift;; esac; done
host=$1; shift
up=$(cat "${SLURM_TEST_ROOT:?source env.sh first}/run/$host.pid") || exit 255
init=$(pgrep -P "$up" | head -n1)              # pid 1 of that node's pid namespace
exec nsenter -t "$init" -n -m -u -i -p --wd="$PWD" -- /bin/sh -c "$*"
NSH
chmod +x "$ROOT/bin/nsh"

# --- network: one netns for bridge and controller, one veth pair and netns per node --------------------------
if [ "$MODE" = netns ]; then
  ip netns add ${TAG}ctl
  ip -n ${TAG}ctl link set lo up
  ip -n ${TAG}ctl link add ${TAG}br type bridge
  ip -n ${TAG}ctl addr add "$CTLADDR/24" dev ${TAG}br
  ip -n ${TAG}ctl link set ${TAG}br up
  for i in $(seq "$NODES"); do
    ip netns add "${TAG}n$i"
    ip -n ${TAG}ctl link add "${TAG}v$i" type veth peer name eth0 netns "${TAG}n$i"
    ip -n ${TAG}ctl link set "${TAG}v$i" master ${TAG}br up
    ip -n "${TAG}n$i" link set lo up
    ip -n "${TAG}n$i" addr add "$SUBNET.$i/24" dev eth0
    ip -n "${TAG}n$i" link set eth0 up
    if [ -n "$RATE" ]; then
      # What comes, at the bridge, and what goes, at the node: each waits for its turn there.
      tc -n ${TAG}ctl qdisc add dev "${TAG}v$i" root tbf rate "$RATE" burst 256kb latency 100ms
      tc -n "${TAG}n$i" qdisc add dev eth0 root tbf rate "$RATE" burst 256kb latency 100ms
    fi
  done
fi

# --- daemons ---------------------------------------------------------------------------
ctl=(); if [ "$MODE" = netns ]; then ctl=(nsenter --net="/run/netns/${TAG}ctl"); fi
"${ctl[@]}" slurmctld -c -f "$SLURM_CONF" >"$ROOT/log/slurmctld.out" 2>&1     # daemonizes
for i in $(seq "$NODES"); do
  if [ "$MODE" = netns ]; then
    # shellcheck disable=SC2016  # the inner shell, which is the node's first process, expands it
    # --kill-child + pid namespace: killing this one pid takes the whole node down,
    # stray job processes included.
    ROOT=$ROOT NODE=node$i setsid nsenter --net="/run/netns/${TAG}n$i" \
      unshare --mount --uts --ipc --pid --fork --kill-child --mount-proc \
      bash -c 'hostname "$NODE"
               mount --bind "$ROOT/etc/hosts" /etc/hosts
               mount -t tmpfs -o size=50%,mode=1777 tmpfs /dev/shm
               mount -t tmpfs -o mode=1777 tmpfs "$ROOT/nodetmp"
               mount -t sysfs sysfs /sys 2>/dev/null    # /sys/class/net of this netns
               slurmd -D -N "$NODE" -f "$SLURM_CONF" & wait' \
      </dev/null >"$ROOT/log/node$i.out" 2>&1 &
    echo $! > "$ROOT/run/node$i.pid"
  else
    slurmd -N "node$i" -f "$SLURM_CONF" >"$ROOT/log/node$i.out" 2>&1
  fi
done

# --- wait until every node is idle -----------------------------------------------------
end=$((SECONDS + TIMEOUT))
until [ "$("${ctl[@]}" timeout 5 sinfo -h -N -o '%T' 2>/dev/null | grep -c '^idle$')" = "$NODES" ]; do
  if [ $SECONDS -ge $end ] || grep -qs 'fatal:\|slurmd initialization failed' "$ROOT"/log/slurm*.log; then
    for f in "$ROOT"/log/*; do echo "== $f"; tail -n 5 "$f"; done >&2
    "$HERE/down.sh" "$ROOT" || true
    die "nodes did not become idle (logs kept in $ROOT/log)"
  fi
  sleep 0.1
done
say "up in $(( (${EPOCHREALTIME/./} - T0) / 1000 )) ms: $NODES nodes x $CPUS CPUs, mode=$MODE; now:  . $ROOT/env.sh"
