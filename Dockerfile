# M2V Studio for everyone who runs containers:
#   docker build -t m2v-studio . && docker run -p 7860:7860 -v m2v-studio:/data m2v-studio
FROM python:3.11-slim AS build

RUN apt-get update && apt-get install --yes --no-install-recommends build-essential
WORKDIR /src
# pip reads this variable. With `--build-arg PIP_EXTRA_INDEX_URL=...`, the address of PyTorch's CPU builds (see its
# installation page), torch comes without the libraries of GPUs, and the image is several gigabytes smaller.
ARG PIP_EXTRA_INDEX_URL
# Of the code itself only a stand-in, so that the packages are fetched again only when their list has changed.
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY m2v_core/_version.py m2v_core/__init__.py m2v_core/
RUN python -m venv /env \
    && /env/bin/pip install --no-cache-dir -c constraints.txt '.[app,offline,eval,search,export,words]' \
    && /env/bin/pip uninstall --yes m2v-studio \
    && rm -r build
COPY setup.py app.py spaces.yaml ./
COPY pages pages
COPY m2v_core m2v_core
# Compiles the kernels. They are optional to pip, but not to this image.
RUN /env/bin/pip install --no-cache-dir --no-deps --target /built . \
    && test -f /built/m2v_core/native/extension.abi3.so \
    && /env/bin/pip uninstall --yes pip

FROM python:3.11-slim

RUN useradd --create-home --uid 1000 studio && install -d -o studio -g studio /data
COPY --from=build /env /env
WORKDIR /app
COPY --from=build /built/m2v_core m2v_core
COPY LICENSE ./
USER studio
ENV PATH=/env/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    M2V_STUDIO_HOME=/data \
    HF_HOME=/data/huggingface
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/', timeout=8)"]
CMD ["python", "-m", "m2v_core", "app"]
