#!/bin/sh
# Write a folder of secrets, one file each, with fresh random values. What is there already stays.
#
#   deploy/make-secrets.sh FOLDER [HOST]     HOST: where all three servers are; without it their names in compose.yaml
#
# compose.yaml and the systemd units read this folder. Enter your partners' secrets in accounts, crms and fiscal.
set -eu
umask 077    # nobody else may look into the folder

folder=${1:?name the folder to write}
postgres=${2:-postgres}
rabbitmq=${2:-rabbitmq}
redis=${2:-redis}
mkdir -p "$folder"
cd "$folder"

random() { head -c "$1" /dev/urandom | base64 | tr -d '\n' | tr '+/' '-_'; }

put() {
    if [ -e "$1" ]; then
        echo "kept     $folder/$1" >&2
        cat >/dev/null
    else
        cat >"$1"
        # Containers read the files under users of their own; the folder keeps everybody else out.
        chmod 0444 "$1"
        echo "written  $folder/$1" >&2
    fi
}

random 24 | put postgres_password
random 24 | put rabbitmq_password
random 24 | put redis_password

echo "postgresql+psycopg://paylinks:$(cat postgres_password)@$postgres:5432/paylinks" | put database_url
echo "amqp://paylinks:$(cat rabbitmq_password)@$rabbitmq:5672/%2F" | put amqp_url
put broker_url <amqp_url
echo "redis://:$(cat redis_password)@$redis:6379/0" | put redis_url

printf 'default_user = paylinks\ndefault_pass = %s\n' "$(cat rabbitmq_password)" | put rabbitmq_conf
printf 'requirepass %s\nappendonly yes\ndir /data\n' "$(cat redis_password)" | put redis_conf

# Lose these keys and raw events stay unreadable, and every link that is out stops working: keep a copy.
printf '["%s"]\n' "$(random 32)" | put data_keys
printf '[{"id": "k1", "secret": "%s"}]\n' "$(random 32)" | put link_keys

# JSON beside what paylinks.toml says of the same names, for example {"acme-bank": {"api_key": "...",
# "webhook_secrets": ["..."]}}, {"acme-crm": {"token": "..."}} and {"acme-till": {"api_key": "..."}}.
echo '{}' | put accounts
echo '{}' | put crms
echo '{}' | put fiscal
