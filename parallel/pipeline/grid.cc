#include "parallel/pipeline/grid.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace trireme {
namespace {

struct Look {
  char letter;
  const char* meaning;
  const char* fill;
};

// By ActionKind.
constexpr Look kLooks[] = {{'F', "forward", "#8ab4f8"},
                           {'I', "input gradient", "#81c995"},
                           {'W', "weight gradient", "#fdd663"},
                           {'B', "both gradients", "#66b3a6"}};

const Look& LookOf(ActionKind kind) { return kLooks[static_cast<int>(kind)]; }

// "F3", "F3.1".
std::string Label(const PipelineShape& shape, const Action& action) {
  std::string label = absl::StrFormat("%c%d", LookOf(action.kind).letter, action.micro_batch);
  if (shape.num_chunks > 1) absl::StrAppend(&label, ".", shape.ChunkOf(action.stage));
  return label;
}

// A row for each rank, a string for each column.
std::vector<std::vector<std::string>> Cells(const PipelineShape& shape,
                                            const Simulation& simulation) {
  // Times are quotients by num_chunks: rounding makes them whole again.
  const auto column = [&](double time) { return std::llround(time * shape.num_chunks); };
  const int64_t num_columns = column(simulation.makespan);
  std::vector<std::vector<std::string>> rows;
  for (const RankSimulation& rank : simulation.ranks) {
    std::vector<std::string>& row = rows.emplace_back(num_columns, ".");
    for (const TimedAction& timed : rank.actions) {
      for (int64_t c = column(timed.begin); c < column(timed.end); ++c) row[c].assign(1, '-');
      if (column(timed.begin) < num_columns) row[column(timed.begin)] = Label(shape, timed.action);
    }
  }
  return rows;
}

}  // namespace

std::string GridText(const PipelineShape& shape, const Simulation& simulation, int width) {
  const std::vector<std::vector<std::string>> rows = Cells(shape, simulation);
  size_t cell = 1;
  for (const auto& row : rows) {
    for (const std::string& text : row) cell = std::max(cell, text.size() + 1);
  }
  const std::string last_name = absl::StrCat("rank ", shape.num_ranks - 1, "  ");
  const size_t num_columns = rows[0].size();
  const size_t per_block = std::max<size_t>(
      1, width > static_cast<int>(last_name.size()) ? (width - last_name.size()) / cell : 1);
  // Times stand above every fifth whole unit, or above each when there is room.
  const size_t ruler = shape.num_chunks * (shape.num_chunks * cell < 8 ? 5 : 1);
  const auto append_row = [&](std::string* text, absl::string_view name, auto&& cell_of,
                              size_t begin) {
    std::string line = absl::StrFormat("%-*s", last_name.size(), name);
    const size_t end = std::min(begin + per_block, num_columns);
    for (size_t c = begin; c < end; ++c) absl::StrAppendFormat(&line, "%-*s", cell, cell_of(c));
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(text, line, "\n");
  };
  std::string text;
  for (size_t begin = 0; begin < num_columns; begin += per_block) {
    if (begin > 0) text += '\n';
    append_row(
        &text, "time",
        [&](size_t c) { return c % ruler == 0 ? absl::StrCat(c / shape.num_chunks) : ""; }, begin);
    for (size_t rank = 0; rank < rows.size(); ++rank) {
      append_row(
          &text, absl::StrCat("rank ", rank), [&](size_t c) { return rows[rank][c]; }, begin);
    }
  }
  return text;
}

std::string GridSvg(const PipelineShape& shape, const Simulation& simulation,
                    absl::string_view title) {
  constexpr int kLeft = 56, kTop = 56, kRow = 26, kRight = 150;
  const Action longest = {ActionKind::W, shape.num_stages() - 1, shape.num_micro_batches - 1};
  // Pixels for one of time, so that the label of an action of a chunk fits.
  const double unit = (7.0 * Label(shape, longest).size() + 4) * shape.num_chunks;
  const auto x = [&](double time) { return kLeft + unit * time; };
  const int bottom = kTop + kRow * shape.num_ranks;
  std::string svg;
  const auto text = [&](double at, int y, const char* anchor, absl::string_view words) {
    absl::StrAppendFormat(&svg, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">%s</text>\n", at, y,
                          anchor, absl::StrReplaceAll(words, {{"&", "&amp;"}, {"<", "&lt;"}}));
  };
  const auto box = [&](double at, int y, double width, int height, const Look& look, double paler) {
    absl::StrAppendFormat(&svg,
                          "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\" "
                          "fill-opacity=\"%.2f\" stroke=\"#555\"/>\n",
                          at, y, width, height, look.fill, 1 - paler);
  };
  const int width = std::max(640, static_cast<int>(x(simulation.makespan)) + kRight);
  absl::StrAppendFormat(&svg,
                        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
                        "font-family=\"sans-serif\" font-size=\"10\">\n"
                        "<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n",
                        width, bottom + 40, width, bottom + 40);
  text(kLeft, 18, "start", title);
  double legend = kLeft;
  for (const Look& look : kLooks) {
    box(legend, 28, 12, 12, look, 0);
    text(legend + 17, 38, "start", absl::StrFormat("%c %s", look.letter, look.meaning));
    legend += 120;
  }
  for (int rank = 0; rank < shape.num_ranks; ++rank) {
    const int y = kTop + kRow * rank;
    const RankSimulation& of_rank = simulation.ranks[rank];
    text(kLeft - 6, y + 15, "end", absl::StrCat("rank ", rank));
    for (const TimedAction& timed : of_rank.actions) {
      const double paler = 0.6 * shape.ChunkOf(timed.action.stage) / shape.num_chunks;
      box(x(timed.begin), y, unit * (timed.end - timed.begin), kRow - 4, LookOf(timed.action.kind),
          paler);
      text(x((timed.begin + timed.end) / 2), y + 15, "middle", Label(shape, timed.action));
    }
    text(x(simulation.makespan) + 8, y + 15, "start",
         absl::StrCat("idle ", of_rank.idle, ", peak ", of_rank.peak_in_flight));
  }
  for (double time = 0; time <= simulation.makespan; time += 5) {
    absl::StrAppendFormat(&svg,
                          "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" stroke=\"#555\"/>\n",
                          x(time), x(time), bottom, bottom + 5);
    text(x(time), bottom + 18, "middle", absl::StrCat(time));
  }
  return absl::StrCat(svg, "</svg>\n");
}

}  // namespace trireme
