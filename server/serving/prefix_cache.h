// Keys and values of prompts that were computed, for prompts that begin alike.
#ifndef POT_SERVER_SERVING_PREFIX_CACHE_H_
#define POT_SERVER_SERVING_PREFIX_CACHE_H_

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "engine/gpt2/kv_cache.h"
#include "engine/loaded_model.h"

namespace pot {

// A tree per model version: a node is a block of KvCache::kBlockPositions
// tokens and what the model made of them after its ancestors' tokens. Nodes are
// found by comparing tokens, so a hash collision cannot give wrong keys.
// Quantized models only: their keys are the same bits whoever computed them,
// which fp32 models do not promise (engine/gpt2/forward.h).
//
// Blocks are shared with the sequences that run, and count once in the KV
// budget. Those that nobody else holds are what is freed, least recently used
// first, when room is needed. A model is not kept alive by its blocks.
//
// One thread, that of the caches it shares blocks with.
class PrefixCache {
 public:
  using Blocks = std::vector<std::shared_ptr<KvBlock>>;

  // Holds at most `max_bytes` of blocks, none for 0, all taken of `budget`.
  PrefixCache(int64_t max_bytes, std::shared_ptr<KvBudget> budget);
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  int64_t bytes() const { return bytes_; }

  // The blocks of the longest beginning of `tokens` that is here, whole blocks
  // only. As long as they are held, nothing frees them.
  Blocks Find(const std::shared_ptr<const LoadedModel>& model,
              absl::Span<const int32_t> tokens);

  // Keeps the whole blocks of `tokens`, with which the sequence of `cache`
  // begins, as far as there is room. Where a block is here already, `cache`
  // takes that over and frees its own.
  void Insert(const std::shared_ptr<const LoadedModel>& model,
              absl::Span<const int32_t> tokens, KvCache* cache);

  // Frees blocks until `bytes` of the budget are free. False, with nothing
  // freed, when that cannot be had.
  bool MakeRoom(int64_t bytes);

  // Frees the blocks of models that are gone.
  void DropUnloaded();

 private:
  static constexpr int64_t kBlock = KvCache::kBlockPositions;
  // Bounds the memory of the tree itself, less than 512 bytes a node.
  static constexpr size_t kMaxNodes = size_t{1} << 16;

  using Tokens = std::array<int32_t, kBlock>;
  struct Node {
    Tokens tokens{};
    std::shared_ptr<KvBlock> block;  // null in a root
    Node* parent = nullptr;          // null in a root
    const Node* root = nullptr;
    absl::flat_hash_map<Tokens, std::unique_ptr<Node>> children;
    std::list<Node*>::iterator place;  // in nodes_
  };

  // The tokens of block number `block`.
  static Tokens BlockOf(absl::Span<const int32_t> tokens, int64_t block);
  // Makes the path the most recently used, parents before their children.
  void Touch(const std::vector<Node*>& path);
  // Frees one block that nobody else holds; false when there is none.
  bool EvictOne();
  static bool Evictable(const Node& node);
  void Remove(Node* leaf);

  const int64_t max_bytes_;
  const std::shared_ptr<KvBudget> budget_;
  // By the object that owns the model, which no later model is, whatever its
  // address.
  std::map<std::weak_ptr<const LoadedModel>, std::unique_ptr<Node>,
           std::owner_less<>>
      roots_;
  // All but roots, the most recently used first. A parent comes before its
  // children; whoever holds a node's block holds those of its ancestors, so
  // the last one that nobody else holds is a leaf.
  std::list<Node*> nodes_;
  int64_t bytes_ = 0;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_PREFIX_CACHE_H_
