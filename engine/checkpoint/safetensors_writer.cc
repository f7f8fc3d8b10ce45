#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/file.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "engine/checkpoint/safetensors.h"
#include "nlohmann/json.hpp"

namespace pot {
namespace {

using NamedTensors = std::vector<std::pair<std::string, TensorView>>;

constexpr size_t kAlignment = 64;

absl::Status CheckTensor(const std::string& path, const std::string& name,
                         const TensorView& view) {
  const auto error = [&](const auto&... parts) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": tensor ", Quote(name), ": ", parts...));
  };
  if (name == "__metadata__") return error("the name is reserved");
  if (FindInvalidUtf8(name) != name.size()) {
    return error("the name is not UTF-8");
  }
  if (view.shape.size() > SafetensorsFile::kMaxDimensions) {
    return error(view.shape.size(), " dimensions exceed the limit of ",
                 SafetensorsFile::kMaxDimensions);
  }
  int64_t expected = TensorTypeBytes(view.type);
  for (int64_t dimension : view.shape) {
    if (dimension < 0 ||
        __builtin_mul_overflow(expected, dimension, &expected)) {
      return error("shape ", ShapeString(view.shape), " is not possible");
    }
  }
  if (static_cast<uint64_t>(expected) != view.bytes.size()) {
    return error(view.bytes.size(), " bytes given, but shape ",
                 ShapeString(view.shape), " of ", TensorTypeName(view.type),
                 " has ", expected);
  }
  return absl::OkStatus();
}

// The length and the padded header: everything before the data section.
absl::StatusOr<std::string> MakeHeader(
    const std::string& path, const NamedTensors& tensors,
    const std::map<std::string, std::string>& metadata) {
  if (tensors.size() > SafetensorsFile::kMaxTensors) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": ", tensors.size(), " tensors exceed the limit of ",
        SafetensorsFile::kMaxTensors));
  }
  nlohmann::json json = nlohmann::json::object();
  uint64_t offset = 0;
  for (const auto& [name, view] : tensors) {
    POT_RETURN_IF_ERROR(CheckTensor(path, name, view));
    if (json.contains(name)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": tensor ", Quote(name), " is given twice"));
    }
    const uint64_t end = offset + view.bytes.size();
    json[name] = {{"dtype", std::string(TensorTypeName(view.type))},
                  {"shape", view.shape},
                  {"data_offsets", {offset, end}}};
    offset = end;
  }
  for (const auto& [key, value] : metadata) {
    if (FindInvalidUtf8(key) != key.size() ||
        FindInvalidUtf8(value) != value.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": metadata ", Quote(key), " is not UTF-8"));
    }
    json["__metadata__"][key] = value;
  }
  std::string text = json.dump();
  text.append((kAlignment - (8 + text.size()) % kAlignment) % kAlignment, ' ');
  if (text.size() > SafetensorsFile::kMaxHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": a header of ", text.size(), " bytes exceeds the limit of ",
        SafetensorsFile::kMaxHeaderBytes));
  }
  std::string header;
  for (size_t i = 0; i < 8; ++i) {
    header.push_back(static_cast<char>(uint64_t{text.size()} >> (8 * i)));
  }
  return header + text;
}

absl::Status WriteAll(int fd, absl::string_view data, const std::string& path) {
  if (const int error = WriteFully(fd, data); error != 0) {
    return absl::ErrnoToStatus(error, absl::StrCat("write ", path));
  }
  return absl::OkStatus();
}

absl::Status WriteAndSync(int fd, const std::string& header,
                          const NamedTensors& tensors,
                          const std::string& path) {
  POT_RETURN_IF_ERROR(WriteAll(fd, header, path));
  for (const auto& [name, view] : tensors) {
    POT_RETURN_IF_ERROR(WriteAll(
        fd,
        {reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size()},
        path));
  }
  if (fsync(fd) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("fsync ", path));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteSafetensors(
    const std::string& path, const NamedTensors& tensors,
    const std::map<std::string, std::string>& metadata) {
  POT_ASSIGN_OR_RETURN(const std::string header,
                       MakeHeader(path, tensors, metadata));
  // A reader may have mapped the file of this name: replace it, never
  // truncate it.
  const std::string partial = absl::StrCat(path, ".partial");
  const int fd =
      open(partial.c_str(),
           O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("open ", partial));
  absl::Status status = WriteAndSync(fd, header, tensors, partial);
  if (close(fd) != 0 && status.ok()) {
    status = absl::ErrnoToStatus(errno, absl::StrCat("close ", partial));
  }
  if (status.ok() && rename(partial.c_str(), path.c_str()) != 0) {
    status = absl::ErrnoToStatus(errno, absl::StrCat("rename to ", path));
  }
  if (!status.ok()) unlink(partial.c_str());
  return status;
}

}  // namespace pot
