#include "engine/kernels/kernel_table.h"

#include <cstdlib>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/kernels/kernel_sets.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace pot {
namespace {

bool AlwaysSupported() { return true; }

KernelTable MakeTable(absl::string_view name, bool (*supported)(),
                      PotDotFunction* pot_dot,
                      void (*set_float_ops)(KernelTable*),
                      PotBlocksFunction* pot_blocks = nullptr,
                      const PotTile* tile = nullptr) {
  KernelTable table{};
  table.name = name;
  table.supported = supported;
  table.pot_dot = pot_dot;
  table.pot_blocks = pot_blocks;
  table.tile = tile;
  set_float_ops(&table);
  return table;
}

#if defined(__x86_64__)
// __builtin_cpu_supports also asks the operating system whether it saves the
// registers. It does not know F16C everywhere; that one's registers are AVX's.
bool Avx2Supported() {
  unsigned eax, ebx, ecx = 0, edx;
  const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
  return __builtin_cpu_supports("avx2") && f16c;
}

bool Avx512VnniSupported() {
  return Avx2Supported() && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}

bool Avx512VbmiSupported() {
  return Avx512VnniSupported() && __builtin_cpu_supports("avx512vbmi");
}

// Linux hands a process the large tile registers only when it asks: the
// permission, state component 18, then holds for all its threads.
bool AmxSupported() {
  constexpr unsigned kAmxTile = 1u << 24, kAmxInt8 = 1u << 25;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  unsigned eax, ebx, ecx, edx = 0;
  if (!Avx512VbmiSupported() ||
      !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || !(edx & kAmxTile) ||
      !(edx & kAmxInt8)) {
    return false;
  }
  static const bool granted =
      syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
}
#elif defined(__aarch64__)
// The dot-product extension, which is optional before Armv8.4.
bool NeonSupported() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }
#endif

std::string SupportedNames() {
  std::string names = "auto";
  for (const KernelTable* table : AllKernelTables()) {
    if (table->supported()) absl::StrAppend(&names, ", ", table->name);
  }
  return names;
}

}  // namespace

absl::Span<const KernelTable* const> AllKernelTables() {
  static const KernelTable scalar =
      MakeTable("scalar", AlwaysSupported, ScalarPotDot, SetBaselineFloatOps);
  static const KernelTable shift =
      MakeTable("shift", AlwaysSupported, ShiftPotDot, SetBaselineFloatOps);
#if defined(__x86_64__)
  static const KernelTable avx2 =
      MakeTable("avx2", Avx2Supported, Avx2PotDot, SetAvx2FloatOps);
  static const KernelTable avx512vnni =
      MakeTable("avx512vnni", Avx512VnniSupported, Avx512VnniPotDot,
                SetAvx512FloatOps, Avx512VnniPotBlocks, &kAvx512PotTile);
  static const KernelTable avx512vbmi =
      MakeTable("avx512vbmi", Avx512VbmiSupported, Avx512VbmiPotDot,
                SetAvx512FloatOps, Avx512VbmiPotBlocks, &kAvx512PotTile);
  static const KernelTable amx =
      MakeTable("amx", AmxSupported, Avx512VbmiPotDot, SetAvx512FloatOps,
                Avx512VbmiPotBlocks, &kAmxPotTile);
  static const KernelTable* const tables[] = {&scalar,     &shift,      &avx2,
                                              &avx512vnni, &avx512vbmi, &amx};
#elif defined(__aarch64__)
  static const KernelTable neon =
      MakeTable("neon", NeonSupported, NeonPotDot, SetBaselineFloatOps);
  static const KernelTable* const tables[] = {&scalar, &shift, &neon};
#else
  static const KernelTable* const tables[] = {&scalar, &shift};
#endif
  return tables;
}

absl::StatusOr<const KernelTable*> FindKernelTable(absl::string_view name) {
  const KernelTable* fastest = nullptr;
  for (const KernelTable* table : AllKernelTables()) {
    const bool supported = table->supported();
    if (supported && table->name != "shift") fastest = table;
    if (table->name != name) continue;
    if (supported) return table;
    return absl::FailedPreconditionError(
        absl::StrCat("this CPU cannot run the kernels \"", name,
                     "\"; it can run ", SupportedNames()));
  }
  if (name.empty() || name == "auto") return fastest;
  return absl::InvalidArgumentError(absl::StrCat(
      "unknown kernels \"", name, "\"; this CPU can run ", SupportedNames()));
}

absl::StatusOr<const KernelTable*> KernelTableFromEnvironment() {
  const char* name = std::getenv("POT_KERNEL");
  return FindKernelTable(name == nullptr ? "" : name);
}

}  // namespace pot
