#!/usr/bin/env bash
# One run on nodes that Slurm gives, as one job: sbatch cluster/slurm.sh --config my_app.yaml --storage.root=/shared/runs
# From the repository, with the environment active; repository, environment, log and root lie where all nodes see them.
# A run that Slurm's time limit or a more important job cuts off goes on in the same job, requeued: finished stages are
# reused, tuning continues from its newest checkpoint. Put account and partition of your site into the lines below, and
# execution.tuning.workers (nodes × GPUs) and use_gpu into my_app.yaml.
#
# Checked by shellcheck and with stand-ins for Slurm's commands; never run under a real Slurm.
#SBATCH --job-name=behaviorlm
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=64
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=behaviorlm-%j.log
#SBATCH --signal=B:TERM@120
set -euo pipefail

mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export HEAD=${hosts[0]} NODES=$SLURM_JOB_NUM_NODES
export PORT=$((20000 + SLURM_JOB_ID % 20000)) DASHBOARD_PORT=$((40000 + SLURM_JOB_ID % 20000))
export GPUS=${SLURM_GPUS_ON_NODE:-0}

export PIDFILE=/tmp/behaviorlm-$SLURM_JOB_ID.pid  # this script runs on the first node, as rank 0 does

# shellcheck disable=SC2016  # each node has its own SLURM_NODEID
srun --kill-on-bad-exit=0 bash -c 'RANK=$SLURM_NODEID exec cluster/on_nodes.sh "$@"' run python -m jobs.run "$@" &
step=$!
# Not to the whole step, which would end Ray before the run has let go.
told=0
trap 'told=1; kill -TERM "$(cat "$PIDFILE")"' TERM
status=0
wait "$step" || status=$?
while ((told)); do  # that ended the wait, and not yet the step
  told=0 again=0
  wait "$step" || again=$?
  if ((again != 127)); then status=$again; fi
done
if ((status == 130)); then scontrol requeue "$SLURM_JOB_ID"; fi  # interrupted, and able to go on
exit "$status"
