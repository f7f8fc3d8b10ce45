#include "engine/checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "nlohmann/json.hpp"

static_assert(std::endian::native == std::endian::little,
              "tensors are little-endian and read in place");

namespace pot {
namespace {

using Json = nlohmann::json;

constexpr size_t kLengthBytes = 8;
constexpr char kMetadataKey[] = "__metadata__";

struct TypeInfo {
  TensorType type;
  absl::string_view name;
  int64_t bytes;
};

constexpr std::array<TypeInfo, 13> kTypes = {{
    {TensorType::kF32, "F32", 4},
    {TensorType::kF16, "F16", 2},
    {TensorType::kBF16, "BF16", 2},
    {TensorType::kF64, "F64", 8},
    {TensorType::kI8, "I8", 1},
    {TensorType::kU8, "U8", 1},
    {TensorType::kI16, "I16", 2},
    {TensorType::kI32, "I32", 4},
    {TensorType::kI64, "I64", 8},
    {TensorType::kU16, "U16", 2},
    {TensorType::kU32, "U32", 4},
    {TensorType::kU64, "U64", 8},
    {TensorType::kBool, "BOOL", 1},
}};

const TypeInfo& InfoOf(TensorType type) {
  return kTypes[static_cast<size_t>(type)];
}

class SafetensorsFileImpl : public SafetensorsFile {
 public:
  const std::map<std::string, TensorView>& tensors() const override {
    return tensors_;
  }
  const std::map<std::string, std::string>& metadata() const override {
    return metadata_;
  }

  void Init(absl::Span<const uint8_t> bytes, SafetensorsHeader header);
  void Keep(MappedFile mapping) { mapping_.emplace(std::move(mapping)); }

 private:
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
  std::optional<MappedFile> mapping_;
};

// Collects the tensors of one header over one data section of `data_bytes`,
// which begins at `data_offset` of the file.
class HeaderReader {
 public:
  using Tensor = SafetensorsHeader::Tensor;

  HeaderReader(uint64_t data_offset, uint64_t data_bytes,
               absl::string_view what)
      : data_offset_(data_offset), data_bytes_(data_bytes), what_(what) {}

  absl::Status ReadTensor(const std::string& name, const Json& entry,
                          Tensor* tensor);
  absl::Status ReadMetadata(const Json& entry,
                            std::map<std::string, std::string>* metadata);
  // The tensors read so far must tile the data section.
  absl::Status CheckCoverage();

 private:
  struct Extent {
    uint64_t begin;
    uint64_t end;
    const std::string* name;
  };

  template <typename... Parts>
  absl::Status Error(const Parts&... parts) const {
    return absl::InvalidArgumentError(absl::StrCat(what_, ": ", parts...));
  }
  template <typename... Parts>
  absl::Status TensorError(const std::string& name,
                           const Parts&... parts) const {
    return Error("tensor ", Quote(name), ": ", parts...);
  }

  absl::Status ReadShape(const std::string& name, const Json& entry,
                         Tensor* tensor);
  absl::Status ReadBytes(const std::string& name, const Json& entry,
                         Tensor* tensor);

  const uint64_t data_offset_;
  const uint64_t data_bytes_;
  absl::string_view what_;
  std::vector<Extent> extents_;
};

absl::Status HeaderReader::ReadTensor(const std::string& name,
                                      const Json& entry, Tensor* tensor) {
  if (!entry.is_object()) {
    return TensorError(name, "its entry must be an object, not ",
                       entry.type_name());
  }
  for (const auto& [key, unused] : entry.items()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      return TensorError(name, "unknown key ", Quote(key));
    }
  }
  const auto dtype = entry.find("dtype");
  if (dtype == entry.end() || !dtype->is_string()) {
    return TensorError(name, "\"dtype\" must be a string");
  }
  const auto& type_name = dtype->get_ref<const std::string&>();
  const auto info = std::find_if(
      kTypes.begin(), kTypes.end(),
      [&](const TypeInfo& candidate) { return candidate.name == type_name; });
  if (info == kTypes.end()) {
    return TensorError(name, "unknown dtype ", Quote(type_name));
  }
  tensor->type = info->type;
  POT_RETURN_IF_ERROR(ReadShape(name, entry, tensor));
  return ReadBytes(name, entry, tensor);
}

absl::Status HeaderReader::ReadShape(const std::string& name, const Json& entry,
                                     Tensor* tensor) {
  const auto shape = entry.find("shape");
  if (shape == entry.end() || !shape->is_array()) {
    return TensorError(name, "\"shape\" must be an array");
  }
  if (shape->size() > SafetensorsFile::kMaxDimensions) {
    return TensorError(name, shape->size(), " dimensions exceed the limit of ",
                       SafetensorsFile::kMaxDimensions);
  }
  for (const Json& dimension : *shape) {
    constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
    if (!dimension.is_number_unsigned() || dimension.get<uint64_t>() > kMax) {
      return TensorError(name, "a dimension must be an integer in [0, ", kMax,
                         "], not ", Quote(dimension.dump()));
    }
    tensor->shape.push_back(dimension.get<int64_t>());
  }
  return absl::OkStatus();
}

absl::Status HeaderReader::ReadBytes(const std::string& name, const Json& entry,
                                     Tensor* tensor) {
  int64_t expected = TensorTypeBytes(tensor->type);
  for (int64_t dimension : tensor->shape) {
    if (__builtin_mul_overflow(expected, dimension, &expected)) {
      return TensorError(name, "shape ", ShapeString(tensor->shape), " of ",
                         TensorTypeName(tensor->type),
                         " is more bytes than 64 bits can count");
    }
  }
  const auto offsets = entry.find("data_offsets");
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2 ||
      !(*offsets)[0].is_number_unsigned() ||
      !(*offsets)[1].is_number_unsigned()) {
    return TensorError(name,
                       "\"data_offsets\" must be two non-negative integers");
  }
  const auto begin = (*offsets)[0].get<uint64_t>();
  const auto end = (*offsets)[1].get<uint64_t>();
  if (begin > end) {
    return TensorError(name, "data_offsets [", begin, ", ", end,
                       "] are reversed");
  }
  if (end > data_bytes_) {
    return TensorError(name, "data_offsets [", begin, ", ", end,
                       "] end after the data section of ", data_bytes_,
                       " bytes");
  }
  if (end - begin != static_cast<uint64_t>(expected)) {
    return TensorError(name, "data_offsets [", begin, ", ", end, "] hold ",
                       end - begin, " bytes, but shape ",
                       ShapeString(tensor->shape), " of ",
                       TensorTypeName(tensor->type), " has ", expected);
  }
  tensor->offset = data_offset_ + begin;
  tensor->num_bytes = end - begin;
  extents_.push_back({begin, end, &name});
  return absl::OkStatus();
}

absl::Status HeaderReader::ReadMetadata(
    const Json& entry, std::map<std::string, std::string>* metadata) {
  if (!entry.is_object()) return Error(kMetadataKey, " must be an object");
  for (const auto& [key, value] : entry.items()) {
    if (!value.is_string()) {
      return Error(kMetadataKey, ": the value of ", Quote(key),
                   " must be a string, not ", value.type_name());
    }
    metadata->emplace(key, value.get_ref<const std::string&>());
  }
  return absl::OkStatus();
}

absl::Status HeaderReader::CheckCoverage() {
  std::sort(extents_.begin(), extents_.end(),
            [](const Extent& a, const Extent& b) {
              return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
            });
  uint64_t covered = 0;
  for (const Extent& extent : extents_) {
    if (extent.begin < covered) {
      return TensorError(*extent.name, "begins at ", extent.begin,
                         " and overlaps another that ends at ", covered);
    }
    if (extent.begin > covered) {
      return TensorError(*extent.name, "begins at ", extent.begin,
                         " and leaves a hole after ", covered);
    }
    covered = extent.end;
  }
  if (covered != data_bytes_) {
    return Error(data_bytes_ - covered, " bytes trail the last tensor, which ",
                 "ends at ", covered, " of the data section");
  }
  return absl::OkStatus();
}

// Of the header's text, from the file's first 8 bytes.
absl::StatusOr<uint64_t> HeaderBytes(absl::Span<const uint8_t> length,
                                     uint64_t file_bytes,
                                     absl::string_view what) {
  if (file_bytes < kLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": a file of ", file_bytes,
                     " bytes lacks the 8 bytes of the header length"));
  }
  uint64_t header_bytes = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) {
    header_bytes |= uint64_t{length[i]} << (8 * i);
  }
  if (header_bytes > SafetensorsFile::kMaxHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        what, ": a header of ", header_bytes, " bytes exceeds the limit of ",
        SafetensorsFile::kMaxHeaderBytes));
  }
  if (header_bytes > file_bytes - kLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": a header of ", header_bytes,
                     " bytes does not fit in a file ", "of ", file_bytes));
  }
  return header_bytes;
}

absl::StatusOr<SafetensorsHeader> ParseHeader(absl::string_view text,
                                              uint64_t file_bytes,
                                              absl::string_view what) {
  if (text.empty() || text.front() != '{') {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": the header must begin with '{'"));
  }
  POT_ASSIGN_OR_RETURN(const Json json,
                       ParseJson(text, absl::StrCat(what, ": header")));
  // The metadata is not a tensor.
  const size_t num_tensors = json.size() - json.count(kMetadataKey);
  if (num_tensors > SafetensorsFile::kMaxTensors) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": ", num_tensors, " tensors exceed the limit of ",
                     SafetensorsFile::kMaxTensors));
  }
  SafetensorsHeader header;
  const uint64_t data_offset = kLengthBytes + text.size();
  HeaderReader reader(data_offset, file_bytes - data_offset, what);
  for (const auto& [name, entry] : json.items()) {
    if (name == kMetadataKey) {
      POT_RETURN_IF_ERROR(reader.ReadMetadata(entry, &header.metadata));
      continue;
    }
    const auto inserted = header.tensors.try_emplace(name).first;
    POT_RETURN_IF_ERROR(
        reader.ReadTensor(inserted->first, entry, &inserted->second));
  }
  POT_RETURN_IF_ERROR(reader.CheckCoverage());
  return header;
}

absl::StatusOr<SafetensorsHeader> HeaderOf(absl::Span<const uint8_t> bytes,
                                           absl::string_view what) {
  POT_ASSIGN_OR_RETURN(const uint64_t header_bytes,
                       HeaderBytes(bytes, bytes.size(), what));
  const auto text = bytes.subspan(kLengthBytes, header_bytes);
  return ParseHeader(
      absl::string_view(reinterpret_cast<const char*>(text.data()),
                        text.size()),
      bytes.size(), what);
}

void SafetensorsFileImpl::Init(absl::Span<const uint8_t> bytes,
                               SafetensorsHeader header) {
  for (auto& [name, tensor] : header.tensors) {
    tensors_.emplace(
        name, TensorView{tensor.type, std::move(tensor.shape),
                         bytes.subspan(tensor.offset, tensor.num_bytes)});
  }
  metadata_ = std::move(header.metadata);
}

}  // namespace

absl::StatusOr<SafetensorsHeader> SafetensorsHeader::Read(
    const ForeignFile& file) {
  std::array<uint8_t, kLengthBytes> length = {};
  if (file.size() >= kLengthBytes) {
    POT_RETURN_IF_ERROR(file.ReadAt(0, absl::MakeSpan(length)));
  }
  POT_ASSIGN_OR_RETURN(const uint64_t header_bytes,
                       HeaderBytes(length, file.size(), file.path()));
  std::vector<uint8_t> text(header_bytes);
  POT_RETURN_IF_ERROR(file.ReadAt(kLengthBytes, absl::MakeSpan(text)));
  return ParseHeader(
      absl::string_view(reinterpret_cast<const char*>(text.data()),
                        text.size()),
      file.size(), file.path());
}

absl::string_view TensorTypeName(TensorType type) { return InfoOf(type).name; }

int64_t TensorTypeBytes(TensorType type) { return InfoOf(type).bytes; }

std::string ShapeString(absl::Span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

int64_t TensorView::num_elements() const {
  int64_t count = 1;
  for (int64_t dimension : shape) count *= dimension;
  return count;
}

const TensorView* SafetensorsFile::Find(const std::string& name) const {
  const auto found = tensors().find(name);
  return found == tensors().end() ? nullptr : &found->second;
}

absl::StatusOr<std::shared_ptr<const SafetensorsFile>> SafetensorsFile::Open(
    const std::string& path) {
  POT_ASSIGN_OR_RETURN(MappedFile mapping, MappedFile::Open(path));
  POT_ASSIGN_OR_RETURN(SafetensorsHeader header,
                       HeaderOf(mapping.bytes(), path));
  auto file = std::make_shared<SafetensorsFileImpl>();
  file->Init(mapping.bytes(), std::move(header));
  file->Keep(std::move(mapping));
  return std::shared_ptr<const SafetensorsFile>(std::move(file));
}

absl::StatusOr<std::shared_ptr<const SafetensorsFile>> SafetensorsFile::Parse(
    absl::Span<const uint8_t> bytes, absl::string_view what) {
  POT_ASSIGN_OR_RETURN(SafetensorsHeader header, HeaderOf(bytes, what));
  auto file = std::make_shared<SafetensorsFileImpl>();
  file->Init(bytes, std::move(header));
  return std::shared_ptr<const SafetensorsFile>(std::move(file));
}

}  // namespace pot
