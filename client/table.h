#ifndef POT_CLIENT_TABLE_H_
#define POT_CLIENT_TABLE_H_

#include <string>
#include <vector>

namespace pot {

// Columns aligned by code points, two blanks apart, with a rule under the
// header. Lines do not end in blanks.
class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string header;
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns);

  // As many cells as columns.
  void AddRow(std::vector<std::string> cells);
  std::string ToString() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace pot

#endif  // POT_CLIENT_TABLE_H_
