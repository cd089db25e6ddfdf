# talk.sh: the talk with build/tests/port, for scripts that are given it and the driver ($1, $2). Sourcing this starts it.
#   tell COMMAND     has it done, and its answer printed      has FIELD...   the last answer has these
#   field_of NAME    a number of the last answer              leave          ends it; all was as it should be
export RUNTIME_DIRECTORY=/tmp/dpdk
mkdir -p $RUNTIME_DIRECTORY
coproc PORT { exec "$1" --no-pci --no-telemetry --no-huge -m 64 -d "$2" --lcores=0@0 2>/tmp/log; }

fail() {
    echo "FAILED: $*"
    cat /tmp/log
    exit 1
}
answer() { # what was said
    local line
    while read -r -t 60 line <&"${PORT[0]}"; do
        case $line in
            ok*) ANSWER="$line	"; echo "$1 -> $line"; return ;;
            error*) fail "$1 -> $line" ;;
        esac
    done
    fail "$1: no answer"
}
tell() {
    echo "$*" >&"${PORT[1]}"
    answer "$*"
}
# The last answer has these fields.
has() {
    local field
    for field in "$@"; do
        case $ANSWER in
            *"	$field	"*) ;;
            *) fail "not $field: $ANSWER" ;;
        esac
    done
}
field_of() { # of the last answer, a number
    local rest=${ANSWER#*"	$1="}
    echo "${rest%%	*}"
}
leave() {
    exec {PORT[1]}>&-
    wait "$PORT_PID" || fail "the program ended with $?"
    echo "ALL RIGHT"
}
answer "the program comes up"
