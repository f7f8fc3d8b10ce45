# syntax=docker/dockerfile:1
# One build, two small images:
#   docker build --target server  -t pot-server  .
#   docker build --target trainer -t pot-trainer .
FROM debian:bookworm-slim AS build
WORKDIR /src
COPY deploy/install-deps deploy/install-deps
RUN deploy/install-deps build
COPY CMakeLists.txt CMakePresets.json ./
COPY cmake cmake
COPY proto proto
COPY engine engine
COPY server server
COPY trainer trainer
COPY client client
RUN cmake --preset release -DPOT_BUILD_TESTS=OFF \
      -DCMAKE_INSTALL_PREFIX=/opt/pot \
 && cmake --build --preset release \
 && cmake --install build/release --strip

FROM debian:bookworm-slim AS runtime
COPY deploy/install-deps /usr/local/lib/pot/install-deps
RUN /usr/local/lib/pot/install-deps runtime \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --no-create-home pot
USER pot

FROM runtime AS server
COPY --from=build /opt/pot/bin/pot-server /opt/pot/bin/pot-client /usr/local/bin/
COPY --chown=pot:pot deploy/models /var/lib/pot/models
EXPOSE 8500
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
  CMD ["pot-client", "--server", "127.0.0.1:8500", "health"]
ENTRYPOINT ["pot-server"]
CMD ["--repository", "/var/lib/pot/models", \
     "--listen", "0.0.0.0:8500", "--allow-insecure"]

FROM runtime AS trainer
COPY --from=build /opt/pot/bin/pot-trainer /usr/local/bin/
ENTRYPOINT ["pot-trainer"]
CMD ["--help"]
