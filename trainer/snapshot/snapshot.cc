#include "trainer/snapshot/snapshot.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/base/xxh64.h"
#include "engine/checkpoint/directory.h"
#include "trainer/snapshot/snapshot_directory.h"

namespace pot {
namespace {

constexpr size_t kPieceBytes = size_t{4} << 20;
constexpr absl::string_view kOwnPrefix = "snapshot.";
constexpr char kFormatKey[] = "snapshot.format";
constexpr char kStepKey[] = "snapshot.step";
constexpr char kHeaderKey[] = "snapshot.header_xxh64";
constexpr absl::string_view kTensorPrefix = "snapshot.xxh64.";
constexpr char kFormat[] = "1";

absl::Span<const uint8_t> BytesOf(absl::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

std::string HexXxh64(absl::Span<const uint8_t> bytes) {
  return absl::StrFormat("%016x", Xxh64(bytes));
}

// XXH64 over the XXH64s of the pieces, so that a piece is hashed while it is in
// the CPU's cache and no buffer longer than one is needed.
class PieceHash {
 public:
  void Add(absl::Span<const uint8_t> piece) {
    const uint64_t hash = Xxh64(piece);
    for (int i = 0; i < 8; ++i) {
      hashes_.push_back(static_cast<uint8_t>(hash >> (8 * i)));
    }
  }
  std::string Hex() const { return HexXxh64(hashes_); }

 private:
  std::vector<uint8_t> hashes_;
};

// What kHeaderKey is the hash of: everything but itself and the offsets, which
// the tensors' hashes cover.
class HeaderText {
 public:
  void AddTensor(absl::string_view name, TensorType type,
                 absl::Span<const int64_t> shape) {
    tensors_.emplace(name,
                     absl::StrCat(TensorTypeName(type), ShapeString(shape)));
  }
  std::string Hash(const SnapshotMetadata& metadata) const {
    std::string text;
    const auto append = [&](absl::string_view part) {
      absl::StrAppend(&text, part.size(), ":", part);
    };
    for (const auto& [name, description] : tensors_) {
      append(name);
      append(description);
    }
    text.push_back('|');
    for (const auto& [key, value] : metadata) {
      if (key == kHeaderKey) continue;
      append(key);
      append(value);
    }
    return HexXxh64(BytesOf(text));
  }

 private:
  std::map<std::string, std::string> tensors_;
};

template <typename... Parts>
absl::Status Damaged(const std::string& path, const Parts&... parts) {
  return absl::DataLossError(
      absl::StrCat("snapshot ", path, " is damaged: ", parts...));
}

template <typename T>
absl::Span<const uint8_t> Raw(absl::Span<const T> values) {
  return {reinterpret_cast<const uint8_t*>(values.data()),
          values.size() * sizeof(T)};
}
template <typename T>
SnapshotTarget Target(std::string name, TensorType type, absl::Span<T> values) {
  return {
      std::move(name),
      type,
      {static_cast<int64_t>(values.size())},
      {reinterpret_cast<uint8_t*>(values.data()), values.size() * sizeof(T)}};
}

}  // namespace

TensorView ViewOf(absl::Span<const float> values) {
  return {TensorType::kF32, {static_cast<int64_t>(values.size())}, Raw(values)};
}
TensorView ViewOf(absl::Span<const int64_t> values) {
  return {TensorType::kI64, {static_cast<int64_t>(values.size())}, Raw(values)};
}
TensorView ViewOf(absl::Span<const uint8_t> values) {
  return {TensorType::kU8, {static_cast<int64_t>(values.size())}, values};
}

SnapshotTarget TargetOf(std::string name, absl::Span<float> values) {
  return Target(std::move(name), TensorType::kF32, values);
}
SnapshotTarget TargetOf(std::string name, absl::Span<int64_t> values) {
  return Target(std::move(name), TensorType::kI64, values);
}
SnapshotTarget TargetOf(std::string name, absl::Span<uint8_t> values) {
  return Target(std::move(name), TensorType::kU8, values);
}

absl::StatusOr<std::string> WriteSnapshot(const std::string& directory,
                                          int64_t step,
                                          const SnapshotTensors& tensors,
                                          const SnapshotMetadata& metadata) {
  if (step < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a snapshot's step must be at least 0, not ", step));
  }
  SnapshotMetadata all;
  for (const auto& [key, value] : metadata) {
    if (absl::StartsWith(key, kOwnPrefix)) {
      return absl::InvalidArgumentError(
          absl::StrCat("snapshot metadata ", Quote(key),
                       ": keys that begin with ", kOwnPrefix, " are reserved"));
    }
    all.emplace(key, value);
  }
  all.emplace(kFormatKey, kFormat);
  all.emplace(kStepKey, absl::StrCat(step));
  HeaderText header;
  for (const auto& [name, view] : tensors) {
    PieceHash hash;
    for (size_t at = 0; at < view.bytes.size(); at += kPieceBytes) {
      hash.Add(view.bytes.subspan(at, kPieceBytes));
    }
    all[absl::StrCat(kTensorPrefix, name)] = hash.Hex();
    header.AddTensor(name, view.type, view.shape);
  }
  all[kHeaderKey] = header.Hash(all);

  POT_RETURN_IF_ERROR(MakeDirectory(directory).status());
  const std::string step_directory = StepDirectory(directory, step);
  POT_RETURN_IF_ERROR(MakeDirectory(step_directory).status());
  const std::string path = SnapshotFile(step_directory);
  absl::Status status = WriteSafetensors(path, tensors, all);
  if (status.ok()) status = SyncDirectory(step_directory);
  if (status.ok()) status = SyncDirectory(directory);
  if (!status.ok()) {
    RemoveIfEmpty(step_directory);
    return status;
  }
  return path;
}

absl::StatusOr<Snapshot> Snapshot::Open(const std::string& path) {
  POT_ASSIGN_OR_RETURN(
      ForeignFile file,
      ForeignFile::Open(IsDirectory(path) ? SnapshotFile(path) : path));
  absl::StatusOr<SafetensorsHeader> header = SafetensorsHeader::Read(file);
  if (absl::IsInvalidArgument(header.status())) {
    return Damaged(file.path(), header.status().message());
  }
  POT_RETURN_IF_ERROR(header.status());
  Snapshot snapshot(std::move(file), *std::move(header));
  const std::string& name = snapshot.path();
  HeaderText text;
  for (const auto& [tensor, entry] : snapshot.tensors()) {
    text.AddTensor(tensor, entry.type, entry.shape);
  }
  const SnapshotMetadata& all = snapshot.header_.metadata;
  const auto value = [&](const std::string& key) {
    const auto found = all.find(key);
    return found == all.end() ? std::string() : found->second;
  };
  if (value(kHeaderKey) != text.Hash(all)) {
    return Damaged(name, "the checksum of its header is wrong");
  }
  if (value(kFormatKey) != kFormat) {
    return absl::FailedPreconditionError(
        absl::StrCat("snapshot ", name, " has format ",
                     Quote(value(kFormatKey)), ", not ", kFormat));
  }
  if (!absl::SimpleAtoi(value(kStepKey), &snapshot.step_) ||
      snapshot.step_ < 0) {
    return Damaged(name, "its step is ", Quote(value(kStepKey)));
  }
  for (const auto& [key, text_value] : all) {
    if (!absl::StartsWith(key, kOwnPrefix)) {
      snapshot.metadata_.emplace(key, text_value);
    }
  }
  return snapshot;
}

// `bytes` is all of the tensor, or a buffer of a piece that may be overwritten.
absl::Status Snapshot::ReadTensor(const std::string& name,
                                  absl::Span<uint8_t> bytes) const {
  const SafetensorsHeader::Tensor& tensor = tensors().at(name);
  const bool keep = bytes.size() == tensor.num_bytes;
  PieceHash hash;
  for (uint64_t at = 0; at < tensor.num_bytes; at += kPieceBytes) {
    const auto piece = bytes.subspan(
        keep ? at : 0, std::min<uint64_t>(kPieceBytes, tensor.num_bytes - at));
    POT_RETURN_IF_ERROR(file_.ReadAt(tensor.offset + at, piece));
    hash.Add(piece);
  }
  const auto expected =
      header_.metadata.find(absl::StrCat(kTensorPrefix, name));
  if (expected == header_.metadata.end() || expected->second != hash.Hex()) {
    return Damaged(path(), "the checksum of tensor ", Quote(name), " is wrong");
  }
  return absl::OkStatus();
}

absl::Status Snapshot::Read(absl::Span<const SnapshotTarget> targets) const {
  const auto mismatch = [&](absl::string_view tensor, const auto&... parts) {
    return absl::FailedPreconditionError(
        absl::StrCat("snapshot ", path(), " is not of this run: tensor ",
                     Quote(tensor), parts...));
  };
  std::map<std::string, const SnapshotTarget*> by_name;
  for (const SnapshotTarget& target : targets) {
    if (!by_name.emplace(target.name, &target).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", Quote(target.name), " has two targets"));
    }
    const auto found = tensors().find(target.name);
    if (found == tensors().end()) return mismatch(target.name, " is missing");
    const SafetensorsHeader::Tensor& tensor = found->second;
    if (tensor.type != target.type || tensor.shape != target.shape) {
      return mismatch(target.name, " is ", TensorTypeName(tensor.type),
                      ShapeString(tensor.shape), ", not ",
                      TensorTypeName(target.type), ShapeString(target.shape));
    }
    if (tensor.num_bytes != target.bytes.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", Quote(target.name), " has ", tensor.num_bytes,
                       " bytes, its target ", target.bytes.size()));
    }
  }
  for (const auto& [name, tensor] : tensors()) {
    if (!by_name.contains(name)) return mismatch(name, " is not expected");
  }
  // In the order of the file, for the disk's sake.
  std::vector<const SnapshotTarget*> order;
  for (const SnapshotTarget& target : targets) order.push_back(&target);
  std::sort(order.begin(), order.end(), [&](const auto* a, const auto* b) {
    return tensors().at(a->name).offset < tensors().at(b->name).offset;
  });
  for (const SnapshotTarget* target : order) {
    POT_RETURN_IF_ERROR(ReadTensor(target->name, target->bytes));
  }
  return absl::OkStatus();
}

absl::Status Snapshot::Verify() const {
  std::vector<uint8_t> piece(kPieceBytes);
  for (const auto& [name, tensor] : tensors()) {
    POT_RETURN_IF_ERROR(ReadTensor(name, absl::MakeSpan(piece)));
  }
  return absl::OkStatus();
}

absl::Status ReadSnapshot(const std::string& path,
                          absl::Span<const SnapshotTarget> targets,
                          SnapshotMetadata* metadata) {
  POT_ASSIGN_OR_RETURN(const Snapshot snapshot, Snapshot::Open(path));
  POT_RETURN_IF_ERROR(snapshot.Read(targets));
  *metadata = snapshot.metadata();
  return absl::OkStatus();
}

}  // namespace pot
