# Short names for the scripts, with completion by `just`. `just --list` shows them. The logic is in scripts/.

set positional-arguments

# Build and start all services in one process
run *arguments:
    @scripts/run "$@"

# Check everything, or a part
test part="all":
    @scripts/test "$@"

# Run the long tests
soak *arguments:
    @scripts/soak "$@"

# Build the image
image *arguments:
    @scripts/image "$@"

# Create missing secrets in a folder
secrets *arguments:
    @scripts/secrets "$@"

# Deploy to the current cluster of kubectl
deploy *arguments:
    @scripts/deploy "$@"

# Forward a local port to the gateway in the cluster
port-forward *arguments:
    @scripts/port-forward "$@"

# Show the state of the deployment
status *arguments:
    @scripts/status "$@"

# Replace a secret without downtime
rotate *arguments:
    @scripts/rotate "$@"

# Print the digests of the images of the stores
pin *arguments:
    @scripts/pin "$@"

# Build the image again and deploy it to one service
rebuild service *arguments:
    @scripts/rebuild "$@"

# Remove the deployment; --data also deletes its data
clean *arguments:
    @scripts/clean "$@"

# Create sample users and messages
seed *arguments:
    @scripts/seed "$@"

# Check manifests, image and scripts
check-deployment *arguments:
    @scripts/check-deployment "$@"
