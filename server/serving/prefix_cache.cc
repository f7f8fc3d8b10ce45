#include "server/serving/prefix_cache.h"

#include <algorithm>
#include <utility>

namespace pot {

PrefixCache::PrefixCache(int64_t max_bytes, std::shared_ptr<KvBudget> budget)
    : max_bytes_(max_bytes), budget_(std::move(budget)) {}

PrefixCache::~PrefixCache() {
  // Leaves first: a tree may be too deep to be destroyed from its root.
  while (!nodes_.empty()) Remove(nodes_.back());
}

PrefixCache::Tokens PrefixCache::BlockOf(absl::Span<const int32_t> tokens,
                                         int64_t block) {
  Tokens of_block;
  std::copy_n(tokens.begin() + block * kBlock, kBlock, of_block.begin());
  return of_block;
}

PrefixCache::Blocks PrefixCache::Find(
    const std::shared_ptr<const LoadedModel>& model,
    absl::Span<const int32_t> tokens) {
  const auto root = roots_.find(model);
  if (root == roots_.end()) return {};
  Blocks blocks;
  std::vector<Node*> path;
  Node* node = root->second.get();
  const int64_t count = static_cast<int64_t>(tokens.size()) / kBlock;
  for (int64_t b = 0; b < count; ++b) {
    const auto child = node->children.find(BlockOf(tokens, b));
    if (child == node->children.end()) break;
    node = child->second.get();
    path.push_back(node);
    blocks.push_back(node->block);
  }
  Touch(path);
  return blocks;
}

void PrefixCache::Insert(const std::shared_ptr<const LoadedModel>& model,
                         absl::Span<const int32_t> tokens, KvCache* cache) {
  const int64_t count =
      std::min(static_cast<int64_t>(tokens.size()), cache->length()) / kBlock;
  if (max_bytes_ == 0 || count == 0 || !model->weights->quantized) return;
  std::unique_ptr<Node>& root = roots_[model];
  if (root == nullptr) {
    root = std::make_unique<Node>();
    root->root = root.get();
  }
  Blocks blocks;  // keeps the path from being evicted
  std::vector<Node*> path;
  Node* node = root.get();
  for (int64_t b = 0; b < count; ++b) {
    const Tokens of_block = BlockOf(tokens, b);
    auto child = node->children.find(of_block);
    if (child == node->children.end()) {
      const std::shared_ptr<KvBlock>& block = cache->block(b);
      bool room = true;
      while (room && (nodes_.size() >= kMaxNodes ||
                      block->bytes() > max_bytes_ - bytes_)) {
        room = EvictOne();
      }
      if (!room) break;
      auto added = std::make_unique<Node>();
      added->tokens = of_block;
      added->block = block;
      added->parent = node;
      added->root = root.get();
      nodes_.push_front(added.get());
      added->place = nodes_.begin();
      bytes_ += block->bytes();
      child = node->children.emplace(of_block, std::move(added)).first;
    }
    node = child->second.get();
    path.push_back(node);
    blocks.push_back(node->block);
  }
  Touch(path);
  // Of the cache's own model and no longer than it, so this only fails when
  // there is no memory; the cache then goes on with blocks of its own.
  static_cast<void>(cache->Adopt(blocks));
}

void PrefixCache::Touch(const std::vector<Node*>& path) {
  for (auto node = path.rbegin(); node != path.rend(); ++node) {
    nodes_.splice(nodes_.begin(), nodes_, (*node)->place);
  }
}

bool PrefixCache::Evictable(const Node& node) {
  return node.block.use_count() == 1;
}

bool PrefixCache::EvictOne() {
  for (auto node = nodes_.rbegin(); node != nodes_.rend(); ++node) {
    if (!Evictable(**node)) continue;
    Remove(*node);
    return true;
  }
  return false;
}

bool PrefixCache::MakeRoom(int64_t bytes) {
  int64_t missing = bytes - (budget_->capacity_bytes() - budget_->used_bytes());
  std::vector<Node*> victims;
  for (auto node = nodes_.rbegin(); node != nodes_.rend() && missing > 0;
       ++node) {
    if (!Evictable(**node)) continue;
    victims.push_back(*node);
    missing -= (*node)->block->bytes();
  }
  if (missing > 0) return false;
  for (Node* victim : victims) Remove(victim);
  return true;
}

void PrefixCache::DropUnloaded() {
  for (auto root = roots_.begin(); root != roots_.end();) {
    if (!root->first.expired()) {
      ++root;
      continue;
    }
    for (auto place = nodes_.end(); place != nodes_.begin();) {
      Node* const node = *--place;
      if (node->root != root->second.get()) continue;
      ++place;
      Remove(node);
    }
    root = roots_.erase(root);
  }
}

void PrefixCache::Remove(Node* leaf) {
  bytes_ -= leaf->block->bytes();
  nodes_.erase(leaf->place);
  const Tokens tokens = leaf->tokens;
  leaf->parent->children.erase(tokens);
}

}  // namespace pot
