#!/usr/bin/env bash
# adnanh/webhook answers 200 to a request without the signature that its rule demands, 500 to one with a wrong signature.
#
# Version   webhook 2.8.0-4+b6 (Debian, pinned below).
# Expected  Both are refused with 401 or 403, so that a sender whose key is wrong, or missing, notices.
# Behaviour A missing header is a rule that is not satisfied: 200 with "Hook rules were not satisfied." (the status is that of
#           trigger-rule-mismatch-http-response-code, 200 where it is not set), and nothing is executed. A wrong signature is an error
#           of the evaluation: 500, which senders take for a fault that passes, and retry. A sender that goes by the status
#           loses every event in the first case.
# Output    right signature: 200 evento aceito
#           no signature: 200 Hook rules were not satisfied.
#           wrong signature: 500 Error occurred while evaluating hook rules.
#
# Needs: apt-get (Debian 12), curl, openssl. Fails if the behaviour changes.
set -euo pipefail
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
apt-get download -q webhook=2.8.0-4+b6 >/dev/null 2>&1
dpkg -x webhook_*.deb .
cat >hooks.json <<'JSON'
[{"id": "gancho", "execute-command": "/bin/true", "response-message": "evento aceito",
  "trigger-rule": {"match": {"type": "payload-hmac-sha256", "secret": "segredo", "parameter": {"source": "header", "name": "X-Hub-Signature-256"}}}}]
JSON
port=$((20000 + RANDOM % 20000))
usr/bin/webhook -ip 127.0.0.1 -port "$port" -hooks hooks.json >log 2>&1 &
url=http://127.0.0.1:$port/hooks/gancho
until curl -s -o /dev/null "http://127.0.0.1:$port/"; do sleep 0.1; done
body='{"id":1}'
sign() { printf 'X-Hub-Signature-256: sha256=%s' "$(printf %s "$body" | openssl dgst -sha256 -hmac "$1" | sed 's/.* //')"; }
try() {
	local name=$1
	shift
	printf '%s: %s\n' "$name" "$(curl -s -w '%{stderr}%{http_code} ' -H 'Content-Type: application/json' -d "$body" "$@" "$url" 2>&1 >answer; cat answer)"
}
{
	try 'right signature' -H "$(sign segredo)"
	try 'no signature'
	try 'wrong signature' -H "$(sign outro)"
} >out
cat out
diff - out <<'OUT'
right signature: 200 evento aceito
no signature: 200 Hook rules were not satisfied.
wrong signature: 500 Error occurred while evaluating hook rules.
OUT
