#include "client/table.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "client/text_format.h"

namespace pot {
namespace {

constexpr char kRule[] = "\u2500";
constexpr size_t kGap = 2;

}  // namespace

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

void Table::AddRow(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::ToString() const {
  std::vector<size_t> widths;
  for (size_t i = 0; i < columns_.size(); ++i) {
    size_t width = CountColumns(columns_[i].header);
    for (const auto& row : rows_) width = std::max(width, CountColumns(row[i]));
    widths.push_back(width);
  }
  std::string out;
  const auto append = [&](const auto& cell_of) {
    for (size_t i = 0; i < columns_.size(); ++i) {
      const std::string& cell = cell_of(i);
      const std::string padding(widths[i] - CountColumns(cell), ' ');
      if (columns_[i].align == Align::kRight) out += padding;
      out += cell;
      if (i + 1 == columns_.size()) break;
      if (columns_[i].align == Align::kLeft) out += padding;
      out.append(kGap, ' ');
    }
    out.erase(out.find_last_not_of(' ') + 1);
    out += '\n';
  };
  append([&](size_t i) -> const std::string& { return columns_[i].header; });
  for (size_t i = 0; i < columns_.size(); ++i) {
    for (size_t k = 0; k < widths[i]; ++k) out += kRule;
    if (i + 1 < columns_.size()) out.append(kGap, ' ');
  }
  out += '\n';
  for (const auto& row : rows_) {
    append([&](size_t i) -> const std::string& { return row[i]; });
  }
  return out;
}

}  // namespace pot
