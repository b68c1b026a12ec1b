# The scripts under names that `just` completes; `just --list` shows them. Everything is in scripts/.

set positional-arguments

# Build it and start it in one process
run *arguments:
    @scripts/run "$@"

# Check everything, or a part
test part="all":
    @scripts/test "$@"

# Build the image
image *arguments:
    @scripts/image "$@"

# Make the secrets that a folder lacks
secrets *arguments:
    @scripts/secrets "$@"

# Bring it onto the cluster of kubectl
deploy *arguments:
    @scripts/deploy "$@"

# Reach the gateway in the cluster
port-forward *arguments:
    @scripts/port-forward "$@"

# Show what runs in the cluster
status *arguments:
    @scripts/status "$@"

# Replace a secret while everything runs
rotate *arguments:
    @scripts/rotate "$@"

# Print the digests of the images of the stores
pin *arguments:
    @scripts/pin "$@"

# Build again and replace one service
rebuild service *arguments:
    @scripts/rebuild "$@"

# Take it off the cluster; data stays without --data
clean *arguments:
    @scripts/clean "$@"

# Sample users and messages
seed *arguments:
    @scripts/seed "$@"

# Check what deploys it: manifests, image, scripts
check-deployment *arguments:
    @scripts/check-deployment "$@"
