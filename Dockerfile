# The server, with the page and the models that ship, on a CPU; for a GPU with another TORCH_INDEX, such as
# https://download.pytorch.org/whl/cu130.
#
#   docker build -t neuroprompt .
#   docker run --rm -p 127.0.0.1:8765:8765 -e NEUROPROMPT_API_KEY=$(openssl rand -hex 32) neuroprompt
#
# It runs as a user without rights, and writes to /tmp and /var/lib/neuroprompt (models of the hub, votes) alone: the rest
# can be read-only.

FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python3 -m venv /opt/neuroprompt
ENV PATH=/opt/neuroprompt/bin:$PATH
RUN pip install --no-cache-dir "torch>=2.11" "torchvision>=0.26" --index-url $TORCH_INDEX
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY neuroprompt neuroprompt
RUN pip install --no-cache-dir "neuroprompt[images,serve,safety] @ file:///source"

FROM python:3.11-slim-bookworm
RUN useradd --uid 1000 --create-home --home-dir /var/lib/neuroprompt neuroprompt
COPY --from=build /opt/neuroprompt /opt/neuroprompt
ENV PATH=/opt/neuroprompt/bin:$PATH \
    HOME=/var/lib/neuroprompt \
    HF_HOME=/var/lib/neuroprompt/huggingface \
    HF_HUB_DISABLE_TELEMETRY=1 \
    PYTHONUNBUFFERED=1 \
    NEUROPROMPT_HOST=0.0.0.0 \
    NEUROPROMPT_PORT=8765
WORKDIR /var/lib/neuroprompt
USER 1000
EXPOSE 8765
HEALTHCHECK --start-period=2m --interval=15s --timeout=5s CMD ["python3", "-c", "\
import http.client, os; \
server = http.client.HTTPConnection('127.0.0.1', int(os.environ['NEUROPROMPT_PORT']), timeout=4); \
server.request('GET', '/readyz'); \
raise SystemExit(server.getresponse().status != 200)"]
# No shell between: SIGTERM is the server's, which ends when all that was asked is answered.
ENTRYPOINT ["neuroprompt"]
CMD ["serve"]
