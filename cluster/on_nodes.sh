#!/usr/bin/env bash
# A Ray cluster on machines that somebody else gives and takes back, and one command on it: the scheduler starts this on every
# node (slurm.sh by srun, skypilot.yaml by its `run`). Rank 0 is the head, runs the command once all nodes have joined,
# and its status is that of the whole; the others stay until the head has gone.
#
#   RANK=0 NODES=2 HEAD=10.0.0.1 cluster/on_nodes.sh python -m jobs.run --config …
#
# RANK, NODES: this node's number from 0 on, and how many there are. HEAD: rank 0's address, as the others reach it.
# PORT (6379): of the head; another one for each job where jobs share machines. GPUS: of each node; default: all of them.
# PIDFILE: rank 0 writes its process there. SIGTERM to it lets the command end as after Ctrl-C; to the others it is nothing.
# Needs the same environment on all nodes and, at ~/.ray/auth_token, the same token (ray get-auth-token --generate, once).
set -euo pipefail
: "${RANK:?}" "${NODES:?}" "${HEAD:?}" "${1:?a command}"
port=${PORT:-6379}
export RAY_AUTH_MODE=token
# Short: the path of a socket below it may have 107 characters. For each rank, since tests start two on one machine.
folder=$(mktemp -d "/tmp/ray-$RANK-XXXXXX")
options=(--block "--temp-dir=$folder" --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0)
if [[ -n ${GPUS:-} ]]; then options+=("--num-gpus=$GPUS"); fi

node=""
# shellcheck disable=SC2329  # called by the trap
finish() {  # what this script started ends, and nothing else
  if [[ -n $node ]]; then kill -TERM "$node" 2>/dev/null || true; wait "$node" 2>/dev/null || true; fi
  rm -rf "$folder"
  if ((RANK == 0)); then rm -f "${PIDFILE:-}"; fi
}
trap finish EXIT

answers() { (exec 3<>"/dev/tcp/$HEAD/$port") 2>/dev/null; }

if ((RANK > 0)); then
  trap '' TERM  # the head says when it is over: until then work here goes on, so that a checkpoint can be written
  for ((tries = 0; tries < 300; tries++)); do
    if answers; then break; fi
    sleep 2
  done
  while answers; do  # a node that broke is started again as long as there is a head
    (trap - TERM; exec ray start "--address=$HEAD:$port" "${options[@]}") &
    node=$!
    while answers && kill -0 "$node" 2>/dev/null; do sleep 2; done
    kill -TERM "$node" 2>/dev/null || true
    wait "$node" || true
    node=""
  done
  exit 0
fi

if [[ -n ${PIDFILE:-} ]]; then echo $$ > "$PIDFILE"; fi
if [[ $HEAD =~ ^[0-9.]+$ ]]; then options+=("--node-ip-address=$HEAD"); fi
ray start --head "--port=$port" --dashboard-host=127.0.0.1 --dashboard-port="${DASHBOARD_PORT:-8265}" "${options[@]}" &
node=$!
export RAY_ADDRESS="$HEAD:$port"
joined() {
  python - "$NODES" <<'PYTHON'
import os, sys
from ray._raylet import GcsClient
nodes = GcsClient(address=os.environ["RAY_ADDRESS"]).get_all_node_info().values()
sys.exit(sum(one.state == 0 for one in nodes) < int(sys.argv[1]))
PYTHON
}
for ((tries = 0; tries < 300; tries++)); do
  if ! kill -0 "$node" 2>/dev/null; then echo "on_nodes.sh: the head did not start" >&2; exit 1; fi
  if joined 2>/dev/null; then break; fi
  sleep 2
done
if ((tries == 300)); then echo "on_nodes.sh: not all of $NODES nodes came within 10 minutes" >&2; exit 1; fi

"$@" &
command=$!
told=0  # it gives its lease back, and says how to go on
trap 'told=1; kill -TERM "$command" 2>/dev/null || true' TERM INT
status=0
wait "$command" || status=$?
while ((told)); do  # that ended the wait, and not yet the command
  told=0 again=0
  wait "$command" || again=$?
  if ((again != 127)); then status=$again; fi
done
exit "$status"
