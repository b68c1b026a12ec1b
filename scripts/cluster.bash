# Functions of the scripts for Kubernetes; sourced by them.

namespace=godzilla
me=scripts/$(basename "$0")

log() {
    printf '%s: %s\n' "$me" "$*" >&2
}

fail() {
    log "$@"
    exit 1
}

# Prints an error and the usage, and ends with status 2.
misused() {
    log "$@"
    usage >&2
    exit 2
}

# Finds the current cluster. Fails with a message when it is missing.
need_cluster() {
    command -v kubectl >/dev/null ||
        fail 'kubectl is not installed: https://kubernetes.io/docs/tasks/tools (1.30 or newer)'
    context=$(kubectl config current-context 2>/dev/null) ||
        fail 'kubectl has no cluster: start one (for example: kind create cluster), or set KUBECONFIG'
    kubectl get --raw /readyz --request-timeout 10s >/dev/null 2>&1 ||
        fail "the cluster of kubectl's context $context does not answer: kubectl cluster-info prints the reason"
    log "cluster: $context, namespace: $namespace"
}

need_deployment() {
    kubectl get deployment gateway --namespace "$namespace" >/dev/null 2>&1 ||
        fail 'Godzilla is not deployed in this cluster: scripts/deploy'
}

# Prints kind and name of the workload of the service $1.
workload() {
    case "$1" in
    chat | mongo | redis) echo "statefulset/$1" ;;
    gateway | accounts | presence) echo "deployment/$1" ;;
    esac
}

# Prints why the containers of the pod $1 do not run, one line for each reason; prints nothing while all of them run.
pod_state() {
    # shellcheck disable=SC2016
    local template='
        {{- $started := false -}}
        {{- range .status.initContainerStatuses }}{{ template "container" . }}{{ end -}}
        {{- range .status.containerStatuses }}{{ $started = true }}{{ template "container" . }}{{ end -}}
        {{- range .status.conditions -}}
            {{- if and (eq .type "PodScheduled") (eq .status "False") -}}
                not scheduled: {{ .reason }}: {{ printf "%q" .message }}{{ "\n" }}
            {{- end -}}
        {{- end -}}
        {{- if .status.reason }}{{ .status.phase }}: {{ .status.reason }}: {{ printf "%q" .status.message }}{{ "\n" }}{{ end -}}
        {{- define "container" -}}
            {{- if .state.waiting -}}
                {{ .name }} waits: {{ .state.waiting.reason }}
                {{- if .state.waiting.message }}: {{ printf "%q" .state.waiting.message }}{{ end }}{{ "\n" }}
            {{- else if .state.terminated -}}
                {{ .name }} ended: {{ .state.terminated.reason }}, exit code {{ .state.terminated.exitCode }}{{ "\n" }}
            {{- end -}}
            {{- if and (not .state.running) .lastState.terminated -}}
                {{ .name }} ended before: {{ .lastState.terminated.reason }}, exit code {{ .lastState.terminated.exitCode }}, restarts {{ .restartCount }}{{ "\n" }}
            {{- end -}}
        {{- end -}}'
    kubectl get pod "$1" --namespace "$namespace" --output "go-template=$template" 2>/dev/null || true
}

# Prints the last warnings about the objects of the service $1: its workload, replica sets, pods and volume claims.
warnings() {
    kubectl get events --namespace "$namespace" --field-selector type=Warning --sort-by .lastTimestamp --no-headers \
        --output 'custom-columns=NAME:.involvedObject.name,KIND:.involvedObject.kind,REASON:.reason,MESSAGE:.message' |
        awk -v service="$1" '$1 == service || index($1, service "-") == 1 || index($1, "data-" service "-") == 1' | tail -n 10
}

# Waits until the current template of each service runs, and reports progress.
wait_for() {
    local service pod
    for service in "$@"; do
        log "waiting for $service"
        if ! kubectl rollout status "$(workload "$service")" --namespace "$namespace" --timeout 300s >&2; then
            kubectl get pods --namespace "$namespace" --selector "app.kubernetes.io/name=$service" >&2
            for pod in $(kubectl get pods --namespace "$namespace" --selector "app.kubernetes.io/name=$service" --output name); do
                pod_state "${pod#pod/}" | sed "s|^|${pod#pod/}: |" >&2
            done
            warnings "$service" >&2
            fail "$service did not get ready. Its log: kubectl logs --namespace $namespace $(workload "$service")"
        fi
    done
}

# Finds the tool that loads an image into the nodes of a cluster on this machine. Fails with a message when it is
# missing.
need_loader() {
    case "$context" in
    docker-desktop | rancher-desktop | orbstack)
        # The nodes use the images of docker, and no other engine's.
        loader=docker
        export ENGINE=docker
        ;;
    kind-*) loader=kind ;;
    k3d-*) loader=k3d ;;
    minikube*) loader=minikube ;;
    microk8s) loader=microk8s ;;
    default | *k3s*) loader=k3s ;;
    *) fail "no way to load an image into $context is implemented: use --push REPOSITORY, or --image IMAGE for one it can pull" ;;
    esac
    command -v "$loader" >/dev/null ||
        fail "$context takes images from $loader, which is not installed: install it, or use --push REPOSITORY or --image IMAGE"
}

# Creates the temporary folder $scratch, which is removed when the script ends.
make_scratch() {
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    trap 'exit 143' TERM HUP INT
}

# Loads the image $1 into the nodes. Call need_loader and make_scratch before.
load() {
    local image=$1 archive=$scratch/image.tar engine
    if [ "$loader" = docker ]; then return; fi
    engine=$(scripts/image --engine)
    log "loading $image into $context"
    "$engine" save --output "$archive" "$image"
    case "$loader" in
    kind) kind load image-archive "$archive" --name "${context#kind-}" ;;
    k3d) k3d image import "$archive" --cluster "${context#k3d-}" ;;
    minikube) minikube image load "$archive" --profile "$context" ;;
    microk8s) microk8s ctr image import "$archive" ;;
    k3s) k3s ctr images import "$archive" ;;
    esac >&2
    rm -f "$archive"
}
