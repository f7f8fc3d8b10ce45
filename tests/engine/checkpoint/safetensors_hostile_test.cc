// Files that no honest writer makes: each is refused with a message that says
// why, and none is read past its end (run under AddressSanitizer).
#include <memory>

#include "engine/checkpoint/safetensors.h"
#include "tests/engine/checkpoint/checkpoint_test_util.h"

namespace pot {
namespace {

struct HostileFile {
  std::string what;
  std::string bytes;
  std::string message;
};

// A header entry of an F32 tensor.
std::string Entry(const std::string& name, const std::string& shape,
                  const std::string& offsets,
                  const std::string& dtype = "F32") {
  return absl::StrCat("\"", name, "\":{\"dtype\":\"", dtype,
                      "\",\"shape\":", shape, ",\"data_offsets\":", offsets,
                      "}");
}

std::string OneTensor(const std::string& shape, const std::string& offsets,
                      size_t data_bytes, const std::string& dtype = "F32") {
  return RawSafetensors(
      absl::StrCat("{", Entry("a", shape, offsets, dtype), "}"),
      std::string(data_bytes, '\0'));
}

std::string TwoTensors(const std::string& offsets_a,
                       const std::string& offsets_b, size_t data_bytes) {
  return RawSafetensors(absl::StrCat("{", Entry("a", "[2]", offsets_a), ",",
                                     Entry("b", "[2]", offsets_b), "}"),
                        std::string(data_bytes, '\0'));
}

std::string WithMetadata(const std::string& metadata) {
  return RawSafetensors(absl::StrCat("{\"__metadata__\":", metadata, "}"), "");
}

std::vector<HostileFile> HostileFiles() {
  const std::string good = OneTensor("[2]", "[0,8]", 8);
  std::string many = "{";
  for (int64_t i = 0; i <= SafetensorsFile::kMaxTensors; ++i) {
    absl::StrAppend(&many, i == 0 ? "" : ",",
                    Entry(absl::StrCat("t", i), "[0]", "[0,0]", "U8"));
  }
  many += "}";
  return {
      {"empty file", "", "a file of 0 bytes lacks the 8 bytes"},
      {"header length 0", LittleEndian64(0) + "{}", "must begin with '{'"},
      {"header longer than the file", LittleEndian64(100) + "{}",
       "a header of 100 bytes does not fit in a file of 10"},
      {"header over the limit", LittleEndian64((16 << 20) + 1) + "{}",
       "a header of 16777217 bytes exceeds the limit of 16777216"},
      {"header length 2^63", LittleEndian64(uint64_t{1} << 63) + "{}",
       "a header of 9223372036854775808 bytes exceeds"},
      {"header length 2^64-1", LittleEndian64(~uint64_t{0}) + "{}",
       "a header of 18446744073709551615 bytes exceeds"},
      {"header length 2^64-8", LittleEndian64(~uint64_t{0} - 7) + "{}",
       "a header of 18446744073709551608 bytes exceeds"},
      {"header is text", RawSafetensors("hello", ""), "must begin with '{'"},
      {"header is an array", RawSafetensors("[]", ""), "must begin with '{'"},
      {"header begins with a space", RawSafetensors(" {}", ""),
       "must begin with '{'"},
      {"header is cut JSON", RawSafetensors("{\"a\":", ""), "header"},
      {"text after the JSON", RawSafetensors("{} x", ""), "header"},
      {"header padded with NUL", RawSafetensors(std::string("{}\0", 3), ""),
       "header"},
      {"header not UTF-8", RawSafetensors("{\"\xff\":1}", ""), "UTF-8"},
      {"nested too deep",
       RawSafetensors(absl::StrCat("{\"a\":", std::string(100000, '[')), ""),
       "nesting"},
      {"duplicate tensor",
       RawSafetensors(absl::StrCat("{", Entry("a", "[1]", "[0,4]"), ",",
                                   Entry("a", "[1]", "[4,8]"), "}"),
                      std::string(8, '\0')),
       "duplicate key \"a\""},
      {"duplicate key in an entry",
       RawSafetensors("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\","
                      "\"shape\":[0],\"data_offsets\":[0,0]}}",
                      ""),
       "duplicate key \"dtype\""},
      {"entry is a number", RawSafetensors("{\"a\":1}", ""),
       "its entry must be an object, not number"},
      {"unknown key in an entry", RawSafetensors("{\"a\":{\"offset\":0}}", ""),
       "unknown key \"offset\""},
      {"no dtype",
       RawSafetensors("{\"a\":{\"shape\":[0],\"data_offsets\":[0,0]}}", ""),
       "\"dtype\" must be a string"},
      {"dtype is a number",
       RawSafetensors(
           "{\"a\":{\"dtype\":7,\"shape\":[0],\"data_offsets\":[0,0]}}", ""),
       "\"dtype\" must be a string"},
      {"unknown dtype", OneTensor("[2]", "[0,8]", 8, "F8_E4M3"),
       "unknown dtype \"F8_E4M3\""},
      {"no shape",
       RawSafetensors("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,0]}}", ""),
       "\"shape\" must be an array"},
      {"shape is an object", OneTensor("{}", "[0,0]", 0),
       "\"shape\" must be an array"},
      {"negative dimension", OneTensor("[-2]", "[0,8]", 8),
       "a dimension must be an integer in [0, 9223372036854775807], not "
       "\"-2\""},
      {"fractional dimension", OneTensor("[2.0]", "[0,8]", 8), "not \"2.0\""},
      {"dimension is a string", OneTensor("[\"2\"]", "[0,8]", 8),
       "a dimension must be an integer"},
      {"dimension 2^63", OneTensor("[9223372036854775808]", "[0,8]", 8),
       "not \"9223372036854775808\""},
      {"dimension beyond 64 bits",
       OneTensor("[99999999999999999999999]", "[0,8]", 8),
       "a dimension must be an integer"},
      {"too many dimensions", OneTensor("[1,1,1,1,1,1,1,1,2]", "[0,8]", 8),
       "9 dimensions exceed the limit of 8"},
      {"shape product overflows",
       OneTensor("[4294967296,4294967296]", "[0,8]", 8),
       "is more bytes than 64 bits can count"},
      {"shape times type overflows",
       OneTensor("[4611686018427387904]", "[0,0]", 0),
       "is more bytes than 64 bits can count"},
      {"shape wraps around to the right size",
       OneTensor("[4611686018427387906]", "[0,8]", 8),
       "is more bytes than 64 bits can count"},
      {"no data_offsets",
       RawSafetensors("{\"a\":{\"dtype\":\"U8\",\"shape\":[0]}}", ""),
       "\"data_offsets\" must be two non-negative integers"},
      {"one offset", OneTensor("[2]", "[8]", 8), "must be two"},
      {"three offsets", OneTensor("[2]", "[0,8,8]", 8), "must be two"},
      {"negative offset", OneTensor("[2]", "[-8,0]", 8),
       "must be two non-negative integers"},
      {"fractional offset", OneTensor("[2]", "[0,8.0]", 8),
       "must be two non-negative integers"},
      {"offset is null", OneTensor("[2]", "[null,8]", 8),
       "must be two non-negative integers"},
      {"reversed offsets", OneTensor("[2]", "[8,0]", 8),
       "data_offsets [8, 0] are reversed"},
      {"offsets out of range", OneTensor("[2]", "[0,8]", 7),
       "data_offsets [0, 8] end after the data section of 7 bytes"},
      {"offsets near 2^64",
       OneTensor("[2]", "[18446744073709551607,18446744073709551615]", 8),
       "end after the data section of 8 bytes"},
      {"fewer bytes than the shape", OneTensor("[3]", "[0,8]", 8),
       "hold 8 bytes, but shape [3] of F32 has 12"},
      {"more bytes than the shape", OneTensor("[1]", "[0,8]", 8),
       "hold 8 bytes, but shape [1] of F32 has 4"},
      {"scalar with no bytes", OneTensor("[]", "[0,0]", 0),
       "hold 0 bytes, but shape [] of F32 has 4"},
      {"tensors overlap", TwoTensors("[0,8]", "[4,12]", 12),
       "tensor \"b\": begins at 4 and overlaps another that ends at 8"},
      {"tensors share their bytes", TwoTensors("[0,8]", "[0,8]", 8),
       "begins at 0 and overlaps"},
      {"hole between tensors", TwoTensors("[0,8]", "[12,20]", 20),
       "tensor \"b\": begins at 12 and leaves a hole after 8"},
      {"hole before the first", OneTensor("[2]", "[4,12]", 12),
       "begins at 4 and leaves a hole after 0"},
      {"trailing bytes", good + "x", "1 bytes trail the last tensor"},
      {"data without tensors", RawSafetensors("{}", "x"),
       "1 bytes trail the last tensor"},
      {"metadata is a list", WithMetadata("[]"),
       "__metadata__ must be an object"},
      {"metadata value is a number", WithMetadata("{\"k\":1}"),
       "the value of \"k\" must be a string, not number"},
      {"too many tensors", RawSafetensors(many, ""),
       "100001 tensors exceed the limit of 100000"},
      {"control characters in a name",
       RawSafetensors("{\"\\u001b[31m\":1}", ""), "tensor \"\\033[31m\""},
      {"endless name",
       RawSafetensors(absl::StrCat("{\"", std::string(5000, 'n'), "\":1}"), ""),
       absl::StrCat("\"", std::string(80, 'n'), "\".. (5000 bytes)")},
  };
}

TEST(SafetensorsHostile, EveryListedFileIsRefusedWithItsReason) {
  for (const HostileFile& file : HostileFiles()) {
    SCOPED_TRACE(file.what);
    // A copy on the heap of just the right size: a read past the end shows.
    const std::vector<uint8_t> exact(file.bytes.begin(), file.bytes.end());
    const auto parsed = SafetensorsFile::Parse(exact, "hostile");
    ExpectError(parsed, absl::StatusCode::kInvalidArgument, file.message);
    EXPECT_EQ(parsed.status().message().substr(0, 7), "hostile");
    EXPECT_LT(parsed.status().message().size(), 500u);
  }
}

TEST(SafetensorsHostile, TruncationAtEveryByteIsRefused) {
  const std::string whole = TwoTensors("[0,8]", "[8,16]", 16);
  POT_ASSERT_OK(SafetensorsFile::Parse(AsBytes(whole), "t"));
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::vector<uint8_t> cut(whole.begin(), whole.begin() + size);
    ExpectError(SafetensorsFile::Parse(cut, "t"),
                absl::StatusCode::kInvalidArgument, "t: ");
  }
}

// Any single bit may turn a file into another good one, never into a crash.
TEST(SafetensorsHostile, FlippedBitsAreReadOrRefused) {
  const std::string whole = TwoTensors("[0,8]", "[8,16]", 16);
  int refused = 0;
  for (size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    std::vector<uint8_t> bytes(whole.begin(), whole.end());
    bytes[bit / 8] ^= 1 << (bit % 8);
    const auto parsed = SafetensorsFile::Parse(bytes, "t");
    if (!parsed.ok()) {
      EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
      ++refused;
      continue;
    }
    for (const auto& [name, view] : (*parsed)->tensors()) {
      EXPECT_EQ(view.bytes.size(),
                view.num_elements() * TensorTypeBytes(view.type));
    }
  }
  // Of the header length every bit matters.
  EXPECT_GE(refused, 64);
}

TEST(SafetensorsHostile, TensorsWithoutElementsAreAllowedAnywhere) {
  const std::string bytes =
      RawSafetensors(absl::StrCat("{", Entry("a", "[2]", "[0,8]"), ",",
                                  Entry("z", "[0]", "[0,0]"), ",",
                                  Entry("e", "[3,0]", "[8,8]"), "}"),
                     std::string(8, '\0'));
  const auto parsed = SafetensorsFile::Parse(AsBytes(bytes), "t");
  POT_ASSERT_OK(parsed);
  EXPECT_EQ((*parsed)->Find("e")->num_elements(), 0);
}

}  // namespace
}  // namespace pot
