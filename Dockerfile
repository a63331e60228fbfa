# docker build -t asyncfetch .
# docker run --rm -t asyncfetch demo
# docker run --rm -e AWS_ACCESS_KEY_ID -e AWS_SECRET_ACCESS_KEY -v images:/cache asyncfetch prefetch s3://bucket/prefix/

ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
# The demo's server and photographs and the reader of Parquet are most of the image: --build-arg EXTRAS= leaves them
# out, and --build-arg EXTRAS=[parquet] the first alone.
ARG EXTRAS=[demo,parquet]
RUN python -m venv /opt/asyncfetch
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY asyncfetch asyncfetch
# pip is of no use in the image, and what does not run there is not built.
RUN /opt/asyncfetch/bin/pip install --no-cache-dir ".${EXTRAS}" \
    && /opt/asyncfetch/bin/asyncfetch --version \
    && /opt/asyncfetch/bin/pip uninstall --yes --quiet pip

FROM python:${PYTHON}-slim
# The cache is created with the owner and mode that a new volume then takes over.
RUN useradd --create-home --uid 10001 asyncfetch \
    && install --directory --owner=asyncfetch --group=asyncfetch --mode=0700 /cache
COPY --from=build /opt/asyncfetch /opt/asyncfetch
ENV PATH=/opt/asyncfetch/bin:$PATH ASYNCFETCH_CACHE_DIR=/cache
# By its number: Kubernetes cannot tell from a name that it is not root (runAsNonRoot).
USER 10001
WORKDIR /home/asyncfetch
VOLUME ["/cache"]
ENTRYPOINT ["asyncfetch"]
CMD ["--help"]
