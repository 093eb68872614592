#!/bin/sh
# Writes the files that compose.yaml needs and that must not be in the repository. A second run keeps the passwords and updates the
# digests.
#   images.env     the digest that the registry has for each image's tag today; review a change like an update
#   secrets.env    random passwords, and the SHA-256 of the passwords for ClickHouse; only its owner can read it
set -eu
umask 077
cd "$(dirname "$0")"

if [ ! -e secrets.env ]; then
    random() { head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }
    {
        for role in SENSOR PRODUCER WORKER SINK FORWARD ADMIN READER; do
            echo "KAFKA_${role}_PASSWORD=$(random)"
        done
        for user in MIGRATOR WRITER READER; do
            password=$(random)
            echo "CLICKHOUSE_${user}_PASSWORD=$password"
            echo "CLICKHOUSE_${user}_SHA256=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)"
        done
    } > secrets.env.new
    mv secrets.env.new secrets.env
    echo "wrote deploy/secrets.env"
fi

pin() { # VARIABLE IMAGE:TAG
    docker pull --quiet "$2" > /dev/null
    digest=$(docker image inspect --format '{{index .RepoDigests 0}}' "$2")
    case $digest in
        *@sha256:*) echo "$1=$2@${digest#*@}" ;;
        *) echo "prepare.sh: $2: docker gives no digest for it ($digest); pull it from a registry" >&2; exit 1 ;;
    esac
}
{
    pin PYTHON_IMAGE docker.io/library/python:3.11-slim
    pin KAFKA_IMAGE docker.io/apache/kafka:4.3.1
    pin CLICKHOUSE_IMAGE docker.io/clickhouse/clickhouse-server:26.9
    pin PROMETHEUS_IMAGE docker.io/prom/prometheus:v3.5.0
} > images.env.new
mv images.env.new images.env
echo "wrote deploy/images.env"
