# The serving image. It has no TensorFlow and no pipenv, and runs without a shell. BASE may be any image with
# Python 3.11 and venv.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /build
COPY Pipfile Pipfile.lock ./
# pipenv converts the lock to requirements with hashes. It is installed only in this build stage.
RUN ["python3", "-m", "venv", "/build/tools"]
RUN ["/build/tools/bin/python", "-m", "pip", "install", "--quiet", "--no-cache-dir", "pipenv==2026.10.3"]
RUN /build/tools/bin/pipenv requirements --categories serve --hash | grep -v '^-i ' > requirements.txt
RUN ["python3", "-m", "venv", "/opt/cspine/venv"]
RUN ["/opt/cspine/venv/bin/python", "-m", "pip", "install", "--quiet", "--no-cache-dir", "--require-hashes", "--requirement", "requirements.txt"]
RUN ["/opt/cspine/venv/bin/python", "-m", "pip", "uninstall", "--quiet", "--yes", "pip"]
WORKDIR /opt/cspine
COPY predict_flask.py predict_test.py healthcheck.py LICENSE ./
COPY cspine cspine
COPY models models
# Makes OpenVINO's files now, so that a read-only container need not make them at its start. The service uses
# them only if the model's card lists their hashes. If it does not, this step says so, and every start makes
# them again in /tmp.
RUN ["/opt/cspine/venv/bin/python", "-m", "cspine.model.export", "models"]

FROM ${BASE}
LABEL org.opencontainers.image.title="cspine" \
      org.opencontainers.image.description="Cervical-spine CT classifier. Not a medical device." \
      org.opencontainers.image.licenses="Apache-2.0"
# A container's own loopback address would be out of reach from outside of it.
ENV PATH=/opt/cspine/venv/bin:$PATH HOME=/opt/cspine PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    CSPINE_LISTEN=0.0.0.0:9696
WORKDIR /opt/cspine
COPY --from=build /opt/cspine /opt/cspine
USER 10001:10001
EXPOSE 9696
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "healthcheck.py"]
ENTRYPOINT ["python", "predict_flask.py"]
