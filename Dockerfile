# The serving image: no TensorFlow, no pipenv, no shell needed. BASE is any image with Python 3.11 and venv.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /build
COPY Pipfile Pipfile.lock ./
# pipenv turns the lock into hashed requirements and stays behind in this stage.
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
# The engine's own files are made here, so that a read-only container is ready at once. They are used
# only where the card lists them, by their hashes; else this says so, and a start needs a /tmp.
RUN ["/opt/cspine/venv/bin/python", "-m", "cspine.model.export", "models"]

FROM ${BASE}
LABEL org.opencontainers.image.title="cspine" \
      org.opencontainers.image.description="Cervical-spine CT classifier. Not a medical device." \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/cspine/venv/bin:$PATH HOME=/opt/cspine PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/cspine
COPY --from=build /opt/cspine /opt/cspine
USER 10001:10001
EXPOSE 9696
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "healthcheck.py"]
ENTRYPOINT ["python", "predict_flask.py"]
