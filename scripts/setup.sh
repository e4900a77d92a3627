# Sourced by scripts/demo and scripts/test: makes .venv and installs the project into it, once.
# PYTHON and VENV choose another interpreter and another folder.

python=${PYTHON:-python3}
venv=${VENV:-.venv}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "error: $python is not Python 3.11 or newer; set PYTHON to one that is" >&2
  exit 1
fi
stamp=$venv/installed-$(cat setup.cfg pyproject.toml | cksum | cut -d' ' -f1)
if [ ! -e "$stamp" ]; then
  echo "\$ $python -m venv $venv && $venv/bin/pip install -e '.[dev]'"
  "$python" -m venv "$venv" || { echo "error: no venv; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
  "$venv/bin/pip" install --quiet --disable-pip-version-check -e '.[dev]'
  rm -f "$venv"/installed-*
  touch "$stamp"
fi
PATH=$(cd "$venv" && pwd)/bin:$PATH
