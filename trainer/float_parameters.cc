#include "trainer/float_parameters.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/gpt2/float_model.h"

namespace pot {
namespace {

// A file in `directory` with room for `bytes`, all of it on disk: a write to a
// mapped file that finds none would end the process.
absl::StatusOr<int> OpenSpillFile(const std::string& directory, int64_t bytes) {
  const int file =
      open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (file < 0) {
    return absl::InvalidArgumentError(absl::StrCat("cannot open a file in ",
                                                   Quote(directory), ": ",
                                                   std::strerror(errno)));
  }
  const int error = posix_fallocate(file, 0, bytes);
  if (error == 0) return file;
  close(file);
  return absl::ResourceExhaustedError(
      absl::StrCat("no room for ", bytes, " bytes of parameters in ",
                   Quote(directory), ": ", std::strerror(error)));
}

}  // namespace

absl::Status FloatParameters::Allocate(const std::string& spill_directory) {
  const int64_t bytes = layout_.size() * static_cast<int64_t>(sizeof(float));
  void* memory = nullptr;
  if (spill_directory.empty()) {
    memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  } else {
    POT_ASSIGN_OR_RETURN(const int file, OpenSpillFile(spill_directory, bytes));
    memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    spilled_ = true;
  }
  if (memory == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for ", bytes,
                     " bytes of parameters: ", std::strerror(errno)));
  }
  values_ = static_cast<float*>(memory);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<FloatParameters>> FloatParameters::Read(
    const std::string& from, const std::string& spill_directory) {
  POT_ASSIGN_OR_RETURN(const FloatModel model, FloatModel::Open(from));
  std::unique_ptr<FloatParameters> parameters(
      new FloatParameters(model.config()));
  POT_RETURN_IF_ERROR(parameters->Allocate(spill_directory));
  const ParameterLayout& layout = parameters->layout();
  for (size_t i = 0; i < layout.tensors().size(); ++i) {
    POT_RETURN_IF_ERROR(
        layout.ReadTensor(model, static_cast<int>(i), parameters->values()));
    const int64_t offset = layout.offset(static_cast<int>(i));
    parameters->Release(offset, offset + layout.tensors()[i].num_elements());
  }
  return parameters;
}

FloatParameters::~FloatParameters() {
  if (values_ != nullptr) munmap(values_, layout_.size() * sizeof(float));
}

void FloatParameters::ReleaseLayer(int64_t layer) const {
  const int first = layout_.Find(absl::StrCat("h.", layer, ".ln_1.weight"));
  const int last = layout_.Find(absl::StrCat("h.", layer, ".mlp.c_proj.bias"));
  Release(layout_.offset(first),
          layout_.offset(last) + layout_.tensors()[last].num_elements());
}

void FloatParameters::Release(int64_t begin, int64_t end) const {
  if (!spilled_) return;
  const int64_t page = sysconf(_SC_PAGESIZE) / sizeof(float);
  const int64_t first = (begin + page - 1) / page * page;
  const int64_t last = end / page * page;
  if (first >= last) return;
  // What fails here only keeps the memory.
  (void)madvise(values_ + first, (last - first) * sizeof(float), MADV_DONTNEED);
}

}  // namespace pot
