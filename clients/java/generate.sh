#!/usr/bin/env bash
# Generates the messages and stubs in src/generated/java again. BUF names another buf than the one that `make tools` installs.
#
# The versions of protoc and of the grpc-java plugin are the oldest supported versions of the runtime libraries: newer runtime
# libraries accept code that was generated for an older version, but not the other way round. They are also in buf.gen.yaml and
# in the profile "oldest" of pom.xml.
set -euo pipefail
cd "$(dirname "$0")/../.."

buf=${BUF:-.venv/bin/buf}
for plugin in com.google.protobuf:protoc:3.25.5 io.grpc:protoc-gen-grpc-java:1.64.0; do
    IFS=: read -r _ name version <<<"$plugin"
    file=.tools/java/$name-$version-linux-x86_64.exe
    if [ ! -e "$file" ]; then
        echo "$file: downloading from the Maven repository"
        mvn --quiet --batch-mode -Dstyle.color=never org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
            -Dartifact="$plugin:exe:linux-x86_64" -DoutputDirectory="$PWD/.tools/java"
    fi
    chmod +x "$file"
done
"$buf" generate --template clients/java/buf.gen.yaml --path proto/leadgate/v1
echo "clients/java/src/generated/java: generated"
