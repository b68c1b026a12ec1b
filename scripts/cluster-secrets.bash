# Creates the secrets of a cluster and checks that they match each other; sourced by scripts/deploy.
#
# Two first deploys can run at the same time, and a deploy can be interrupted. All values are therefore stored in one secret
# first, `$pending`. The API server accepts exactly one of them, so every deploy derives the same three secrets from it.

# The caller sets $namespace (scripts/cluster.bash) and $scratch, a folder that it removes at its end.
# shellcheck disable=SC2154

# The secret that holds all values until the three secrets exist.
pending=godzilla-pending-secrets
# The label of every secret that a deploy has created.
ours=app.kubernetes.io/managed-by=scripts-deploy

# Prints the names of existing objects of the given kind, one per line. Ends the script if the cluster does not answer.
existing() {
    kubectl get "$@" --namespace "$namespace" --ignore-not-found --output name ||
        fail "the cluster did not list its $1: nothing was changed"
}

# Creates the secret $1 with the label $ours from the remaining arguments. Returns 1 if it exists, ends the script on other errors.
create_secret() {
    local name=$1 output
    shift
    output=$(kubectl create secret generic "$name" "$@" --dry-run=client --output yaml |
        kubectl label --filename - --local --output yaml "$ours" |
        kubectl create --namespace "$namespace" --filename - 2>&1) || {
        if [[ $output == *AlreadyExists* ]]; then return 1; fi
        fail "the secret $name was not created: $output"
    }
    log "$output"
}

# Generates all values and stores them in the pending secret. A pending secret of another deploy is kept. $1: hosts of MongoDB.
store_pending() {
    local folder=$scratch/generated file arguments=()
    mkdir -p "$folder"
    scripts/secrets --mongo "$1" "$folder" 2>/dev/null
    for file in "$folder"/*/*; do
        arguments+=(--from-file "$(basename "$(dirname "$file")").$(basename "$file")=$file")
    done
    create_secret "$pending" "${arguments[@]}" || log 'secrets: another deploy is creating them; this one uses the same values'
    rm -rf "$folder"
}

# Creates those of the three secrets that are missing from the pending secret.
derive_secrets() {
    local folder=$scratch/pending key value name
    mkdir -p "$folder"/{roles,mongo,redis}
    # shellcheck disable=SC2016
    while read -r key value; do
        base64 -d <<<"$value" >"$folder/${key%%.*}/${key#*.}"
    done < <(kubectl get secret "$pending" --namespace "$namespace" \
        --output 'go-template={{ range $key, $value := .data }}{{ $key }} {{ $value }}{{ "\n" }}{{ end }}')
    [ -s "$folder/roles/identity-key" ] || return 1
    for name in roles mongo redis; do
        create_secret "$name" --from-file "$folder/$name" || true
    done
    rm -rf "$folder"
}

# Creates the secrets if the cluster has none of them. Data that was written with other secrets cannot be opened with
# new ones. $1: hosts of MongoDB.
make_secrets() {
    local name made volumes waiting found
    found=$(existing secrets roles mongo redis)
    waiting=$(existing secrets "$pending")
    if [ "$(wc -w <<<"$found")" -eq 3 ]; then
        log 'secrets: kept'
        check_secrets
        if [ -n "$waiting" ]; then drop_pending; fi
        return
    fi
    if [ -z "$waiting" ]; then
        volumes=$(existing persistentvolumeclaims)
        if [ -n "$volumes" ]; then
            [ -z "$found" ] || fail "only some of the secrets roles, mongo and redis exist: restore the others from your backup"
            fail 'there are volumes but no secrets: the data opens only with the old ones. Restore the secrets roles, mongo, redis'
        fi
        made=$(existing secrets --selector "$ours")
        for name in $found; do
            grep -qx "$name" <<<"$made" ||
                fail "$name is there, and not all of the secrets roles, mongo and redis: make the others, too (scripts/secrets DIR shows how)"
        done
        store_pending "$1"
        if [ -n "$found" ]; then
            # Earlier releases created them one by one, and such a deploy was interrupted. No data exists yet.
            log "secrets: an interrupted deploy has created only some of them; creating all of them again"
            mapfile -t found <<<"$found"
            kubectl delete "${found[@]}" --namespace "$namespace" >&2
        fi
    else
        log 'secrets: continuing a deploy that was interrupted or still runs'
    fi
    # The pending secret disappears when the other deploy has finished. All three secrets exist then.
    derive_secrets || [ "$(wc -w <<<"$(existing secrets roles mongo redis)")" -eq 3 ] ||
        fail 'another deploy removed its secrets meanwhile: run this again'
    check_secrets
    drop_pending
    log 'secrets: created; keep a copy of them with your backups'
}

drop_pending() {
    kubectl delete secret "$pending" --namespace "$namespace" --ignore-not-found >&2
}

# Prints the value of the key $2 of the secret $1.
secret_value() {
    kubectl get secret "$1" --namespace "$namespace" --output "go-template={{ index .data \"$2\" }}" | base64 -d
}

# Prints the password in the address $1 if its user is godzilla and its host is a store of this namespace.
own_password() {
    if [[ $1 =~ ^[a-z+]+://godzilla:([^@/]*)@(mongo|redis)[-.:0-9] ]]; then printf '%s' "${BASH_REMATCH[1]}"; fi
}

# Refuses secrets of different sets: the roles could not log in to their stores.
check_secrets() {
    local password mismatch=()
    password=$(own_password "$(secret_value roles mongo-uri)")
    if [ -n "$password" ] && [ "$password" != "$(secret_value mongo password)" ]; then
        mismatch+=('the password in roles/mongo-uri is not the one in mongo/password')
    fi
    password=$(own_password "$(secret_value roles redis-url)")
    if [ -n "$password" ] && ! secret_value redis auth.conf | grep -qF ">$password "; then
        mismatch+=('the password in roles/redis-url is not in redis/auth.conf')
    fi
    [ ${#mismatch[@]} -eq 0 ] ||
        fail "the secrets do not match: $(printf '%s; ' "${mismatch[@]}")restore the set that the stores were started with, or, if they hold no data yet, delete all three (scripts/clean --data) and deploy again"
}
