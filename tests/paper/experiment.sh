# What the experiments share; sourced with $trainer set, in the directory that
# keeps their work.

# step NAME COMMAND..: runs it once; what it says goes to NAME.log.
step() {
  local name=$1
  shift
  [ -e "$name.done" ] && return
  echo "$name .." >&2
  if ! "$@" >"$name.log" 2>&1; then
    tail -n 5 "$name.log" >&2
    exit 1
  fi
  touch "$name.done"
}

# ptq NAME FLAGS..: without training, of the float model $fp32.
ptq() {
  local name=$1
  shift
  step "ptq-$name" "$trainer" quantize --from "$fp32" \
    --out "models/ptq-$name" "$@"
}
