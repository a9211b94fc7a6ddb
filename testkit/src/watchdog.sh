# The watchdog: owns one server and its directory, and outlives the test process by a moment.
#
# It takes one command a line from the test process and answers each with one line. At end of
# file, which the kernel delivers however that process ended, it stops the server and removes the
# directory.
#
# TESTKIT_DIR      the directory to make and remove
# TESTKIT_PREPARE  shell code that prepares the directory
# TESTKIT_START    shell code that becomes the server on port $port
# TESTKIT_HALT     the signal that stops the server at once

# An answer that nobody reads any more must not end the watchdog before it cleaned up.
trap '' PIPE
umask 077
dir=$TESTKIT_DIR
mkdir "$dir" || exit 1
exec 2>>"$dir/log"
job=

start() {
    port=$1
    rm -f "$dir/pid" "$dir/exited"
    # A subshell of its own waits for the server, so that `exited` tells its end to the test
    # process, and so that the process id stays taken until `exited` is about to appear.
    (
        eval "$TESTKIT_START" &
        echo "$!" >"$dir/pid"
        wait "$!"
        : >"$dir/exited"
    ) </dev/null >>"$dir/log" 2>&1 &
    job=$!
    tries=0
    until [ -s "$dir/pid" ] || [ "$tries" -ge 500 ]; do
        sleep 0.01
        tries=$((tries + 1))
    done
}

stop() {
    [ -n "$job" ] || return 0
    if [ ! -e "$dir/exited" ]; then
        server=$(cat "$dir/pid")
        kill "-$1" "$server"
        # A stopped process handles its signal only when it continues.
        kill -CONT "$server"
    fi
    wait "$job"
    job=
}

while read -r command argument; do
    case $command in
    prepare)
        if (eval "$TESTKIT_PREPARE") </dev/null >>"$dir/log" 2>&1; then
            echo prepared
        else
            echo failed
        fi
        ;;
    start)
        start "$argument"
        echo "started $(cat "$dir/pid")"
        ;;
    stop)
        stop "$argument"
        echo stopped
        ;;
    esac
done

stop "$TESTKIT_HALT"
rm -rf "$dir"
