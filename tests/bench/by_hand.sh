#!/usr/bin/env bash
# What rollout_cold is compared with: the same steps, written down by hand for one host, with nothing checked and nothing repeatable.
# Run as root in a bare Debian container that boots systemd. CA_BUNDLE is a PEM file to trust, or empty; the lock comes as standard input.
set -euo pipefail

version=$1 auth=prefect:$(tr -dc a-z0-9 </dev/urandom | head -c 40 || true) password=$(tr -dc a-z0-9 </dev/urandom | head -c 40 || true)
cat >/root/lock.txt
export DEBIAN_FRONTEND=noninteractive SSL_CERT_FILE=${CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt} PIP_CERT=${CA_BUNDLE:-}

apt-get update
apt-get install --yes --no-install-recommends postgresql nginx python3-venv

useradd --system --create-home --home-dir /var/lib/prefect prefect
python3 -m venv /opt/prefect
/opt/prefect/bin/pip install --quiet uv
pins=$(grep -oE '^(uvloop|httptools)==[^ ;]+' /root/lock.txt)
# shellcheck disable=SC2086  # one argument each
/opt/prefect/bin/uv pip install --quiet --compile-bytecode --require-hashes --python /opt/prefect/bin/python --constraint /root/lock.txt "prefect==$version" $pins

cd /etc/postgresql/*/main
runuser -u postgres -- openssl req -x509 -days 3650 -noenc -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -subj /CN=localhost \
  -addext subjectAltName=DNS:localhost -addext keyUsage=critical,digitalSignature,keyCertSign -keyout server.key -out server.crt 2>/dev/null
printf "ssl_cert_file = '%s'\nssl_key_file = '%s'\n" "$PWD/server.crt" "$PWD/server.key" >conf.d/tls.conf
install -m 0644 server.crt /usr/local/share/database-ca.pem
cd /
systemctl restart postgresql
runuser -u postgres -- psql --quiet <<SQL
create role prefect login password '$password';
create database prefect owner prefect;
SQL

install -d -m 0750 -o root -g prefect /etc/prefect
cat >/etc/prefect/server.env <<ENV
PREFECT_HOME=/var/lib/prefect
PREFECT_SERVER_API_AUTH_STRING=$auth
PREFECT_SERVER_DATABASE_CONNECTION_URL=postgresql+asyncpg://prefect:$password@localhost/prefect
PREFECT_SERVER_UI_API_URL=/api
PREFECT_UI_STATIC_DIRECTORY=/var/lib/prefect/ui
ENV
cat >/etc/prefect/worker.env <<ENV
PREFECT_HOME=/var/lib/prefect
PREFECT_API_URL=http://127.0.0.1/api
PREFECT_API_AUTH_STRING=$auth
PREFECT_WORKER_QUERY_SECONDS=2
ENV
chmod 0600 /etc/prefect/*.env
cat >/var/lib/prefect/prefect.toml <<'TOML'
[server.database.sqlalchemy.connect_args.tls]
enabled = true
ca_file = "/usr/local/share/database-ca.pem"
TOML
for unit in server worker; do
  cat >/etc/systemd/system/prefect-$unit.service <<UNIT
[Unit]
Description=Prefect $unit
[Service]
User=prefect
WorkingDirectory=/var/lib/prefect
EnvironmentFile=/etc/prefect/$unit.env
ExecStart=/opt/prefect/bin/prefect $unit start $([ $unit = worker ] && echo --pool default --type process)
Restart=always
[Install]
WantedBy=multi-user.target
UNIT
done

rm -f /etc/nginx/sites-enabled/default
cat >/etc/nginx/conf.d/prefect.conf <<'NGINX'
map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
server {
    listen 80 default_server;
    location / {
        proxy_pass http://127.0.0.1:4200;
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
    }
}
NGINX
systemctl reload-or-restart nginx
systemctl daemon-reload
systemctl enable --quiet --now prefect-server
ready() { python3 -c 'import urllib.request; urllib.request.urlopen("http://127.0.0.1/api/ready", timeout=2)' 2>/dev/null; }
until ready; do sleep 0.5; done
systemctl enable --quiet --now prefect-worker

set -a
# shellcheck disable=SC1091  # written above, on another machine than the one that is checked
. /etc/prefect/worker.env
cd /var/lib/prefect
cat >flow.py <<'PYTHON'
from prefect import flow, task

@task
def greet():
    return "hello"

@flow
def check():
    greet()
PYTHON
chown prefect flow.py
cat >deploy.py <<'PYTHON'
from prefect import flow
from prefect.deployments import run_deployment

deployment = flow.from_source(source="/var/lib/prefect", entrypoint="flow.py:check").deploy(name="check", work_pool_name="default")
run = run_deployment(deployment, timeout=120, poll_interval=0.5)
print("First flow run:", run.state.name)
assert run.state.is_completed(), run.state
PYTHON
# The worker makes the pool when it starts.
until /opt/prefect/bin/prefect work-pool inspect default >/dev/null 2>&1; do sleep 0.5; done
/opt/prefect/bin/python deploy.py
