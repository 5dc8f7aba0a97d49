# For those who publish images: both architectures at once.
#
#   docker buildx bake -f images/docker-bake.hcl --print          what would be built
#   VERSION=1.2.3 docker buildx bake -f images/docker-bake.hcl --push
#
# Attestations and two platforms in one image need a builder of the kind
# docker-container and a registry; `acoupi compose build` needs neither.

variable "REGISTRY" { default = "" }
variable "VERSION" { default = "dev" }
variable "REVISION" { default = "unknown" }
variable "BASE" { default = "debian:bookworm-slim" }

group "default" {
  targets = ["sensor"]
}

target "sensor" {
  context    = "."
  dockerfile = "images/sensor/Dockerfile"
  platforms  = ["linux/amd64", "linux/arm64"]
  tags       = ["${REGISTRY}acoupi/sensor:${VERSION}"]
  args = {
    BASE     = BASE
    VERSION  = VERSION
    REVISION = REVISION
  }
  attest = ["type=sbom", "type=provenance,mode=max"]
}

# For the architecture of this machine, into its own engine.
target "local" {
  inherits  = ["sensor"]
  platforms = []
  attest    = []
  output    = ["type=docker"]
}
