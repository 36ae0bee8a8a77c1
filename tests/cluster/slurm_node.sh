#!/usr/bin/env bash
# Starts a Slurm of one node in namespaces of its own, submits a script there, and waits for its end.
# Called by test_slurm.py as: unshare --pid --fork --mount-proc --net --uts bash slurm_node.sh FOLDER SCRIPT
# Within the namespaces `ray stop` reaches no process outside, and no other cluster of this machine is found.
set -euo pipefail
folder="$1" script="$2"

hostname node0
ip link set lo up
ip link add ether0 type veth peer name ether1
ip address add 10.77.0.1/24 dev ether0
ip link set ether0 up
ip link set ether1 up
printf '127.0.0.1 localhost\n10.77.0.1 node0\n' >"$folder/hosts"
mount --bind "$folder/hosts" /etc/hosts
# Ray notes the newest cluster of the machine here.
mkdir -p /tmp/ray
mount -t tmpfs tmpfs /tmp/ray

mkdir -p "$folder/state" "$folder/spool" "$folder/munge"
chmod 0755 "$folder" "$folder/munge"
head -c 1024 /dev/urandom >"$folder/munge/key"
chmod 0400 "$folder/munge/key"
munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" \
    --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"

cat >"$folder/slurm.conf" <<CONFIGURATION
ClusterName=test
SlurmctldHost=node0(10.77.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
NodeName=node0 NodeAddr=10.77.0.1 CPUs=16 RealMemory=8000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONFIGURATION
export SLURM_CONF="$folder/slurm.conf"
slurmctld
slurmd -N node0

for _ in $(seq 60); do
    [ "$(sinfo --noheader --format=%t || true)" = idle ] && break
    sleep 1
done
cd "$folder"
sbatch --wait "$script"
