// Runs the probes of benches/hopper on a GPU of compute capability 9.0, and prints a line of JSON for each: whether its results are the
// CPU's, or how they differ, and its time.
//
//   probes [--json FILE] [--few] [--below N] [--seconds N] [NAME...]
//
// runs those whose names begin with one of the names. --json appends the lines to a file as well. --few repeats little, and --below N leaves
// out shapes of N elements or more: for a rehearsal. It ends within --seconds (40). The probes run in a process that this one starts; a
// fault, its end or a kernel that never ends costs the probe that was running, and the next process goes on after it. Without such a GPU
// one line says so, and that is no failure.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>

#include "probe.h"

// The status of a process that has nothing to run on.
constexpr int NOT_HERE = 3;
// Milliseconds that a probe may take, the start of its process included.
constexpr long PATIENCE = 15000;

struct Options {
  bool few = false;
  double below = INFINITY, seconds = 40;
  std::string json;
  std::vector<std::string> names;
};

static std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return out + '"';
}
static std::string or_null(double value) {
  char text[32];
  snprintf(text, sizeof text, "%.5g", value);
  return std::isfinite(value) ? text : "null";
}
static std::string line_of(const Probe& probe, const std::string& result, const Outcome& outcome = {}) {
  const double seconds = outcome.milliseconds / 1e3, clocks = seconds * outcome.hertz;
  return "{\"probe\": " + quoted(probe.name) + ", \"shape\": " + quoted(probe.shape) + ", \"dtype\": " + quoted(probe.dtype) +
         ", \"result\": " + quoted(result) + ", \"error\": " + or_null(outcome.error) + ", \"ms\": " + or_null(outcome.milliseconds) +
         ", \"tflops\": " + or_null(outcome.operations / seconds / 1e12) + ", \"megahertz\": " + or_null(outcome.hertz / 1e6) +
         ", \"clocks\": " + or_null(clocks) + ", \"bound_share\": " + or_null(outcome.least_clocks / clocks) + "}\n";
}
// About all of them.
static std::string line(const std::string& result) { return "{\"probe\": \"hopper\", \"result\": " + quoted(result) + "}\n"; }

// Runs probes from number `from` on, in a process of its own.
[[noreturn]] static void run(const std::vector<Probe>& probes, size_t from, const std::string& folder, bool few, int out) {
  auto say = [&](const std::string& text) {
    if (write(out, text.data(), text.size()) != ssize_t(text.size())) _exit(1);
  };
  try {
    Gpu gpu(folder, few);
    const int major = gpu.attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
    const int minor = gpu.attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    if (major != 9) {
      const std::string capability = std::to_string(major) + "." + std::to_string(minor);
      say(line("not run: " + gpu.name() + " has compute capability " + capability + ", and the probes need 9.0"));
      _exit(NOT_HERE);
    }
    gpu.start();
    for (size_t i = from; i < probes.size(); ++i) {
      try {
        const Outcome outcome = probes[i].run(gpu);
        say(line_of(probes[i], outcome.differs.empty() ? "ok" : outcome.differs, outcome));
        if (outcome.broken) _exit(1);
      } catch (const std::exception& error) {
        say(line_of(probes[i], error.what()));
        _exit(1);
      }
    }
    _exit(0);
  } catch (const DriverError& error) {
    say(line(std::string("not run: ") + error.what()));
    _exit(NOT_HERE);
  }
}

// The processes that run probes, one after another, and what they say.
class Runs {
 public:
  Runs(const Options& options, const std::vector<Probe>& probes, std::string folder)
      : options_(options), probes_(probes), folder_(std::move(folder)) {
    if (!options.json.empty() && !(json_ = fopen(options.json.c_str(), "a"))) perror(options.json.c_str()), exit(2);
  }

  int all() {
    while (done_ < probes_.size()) {
      if (left() <= 0) {
        tell(line("no time left for " + std::to_string(probes_.size() - done_) + " probes, from " + probes_[done_].name + " on"));
        return 1;
      }
      if (one() == NOT_HERE) return failed_ > 0;
    }
    return failed_ > 0;
  }

 private:
  long left() const {
    const auto passed = std::chrono::steady_clock::now() - start_;
    return long(options_.seconds * 1e3) - long(std::chrono::duration_cast<std::chrono::milliseconds>(passed).count());
  }
  // At once, so that what ends this process loses no line.
  void tell(const std::string& text) {
    for (FILE* to : {stdout, json_})
      if (to) fputs(text.c_str(), to), fflush(to);
  }
  // A process, until it ends or takes too long; its status.
  int one() {
    int ends[2];
    pid_t child;
    if (pipe(ends) || (child = fork()) < 0) {
      tell(line(std::string("not run: ") + strerror(errno)));
      return NOT_HERE;
    }
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      run(probes_, done_, folder_, options_.few, ends[1]);
    }
    close(ends[1]);
    std::string text, why;
    const size_t first = done_;
    for (;;) {
      pollfd ready{ends[0], POLLIN, 0};
      const long patience = std::min(PATIENCE, std::max(left(), 0L));
      if (poll(&ready, 1, int(patience)) <= 0) {
        kill(child, SIGKILL);
        why = "took longer than " + std::to_string(patience / 1000) + " s";
        break;
      }
      char piece[4096];
      const ssize_t count = read(ends[0], piece, sizeof piece);
      if (count <= 0) break;
      text.append(piece, size_t(count));
      for (size_t end; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1)) {
        const std::string told = text.substr(0, end + 1);
        tell(told);
        if (told.find("\"result\": \"not run") != std::string::npos) continue;
        ++done_;
        failed_ += told.find("\"result\": \"ok\"") == std::string::npos;
      }
    }
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    const bool exited = WIFEXITED(status);
    if (exited && WEXITSTATUS(status) == NOT_HERE) return NOT_HERE;
    // One that ends by itself has said why in its last line.
    if (done_ < probes_.size() && (!exited || done_ == first)) {
      if (why.empty()) why = "ended the process: " + (exited ? "exit status " + std::to_string(WEXITSTATUS(status)) : strsignal(WTERMSIG(status)));
      tell(line_of(probes_[done_++], why));
      ++failed_;
    }
    return 0;
  }

  const Options& options_;
  const std::vector<Probe>& probes_;
  std::string folder_;
  FILE* json_ = nullptr;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  size_t done_ = 0, failed_ = 0;
};

int main(int count, char** arguments) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    if (argument == "--few") options.few = true;
    else if (argument == "--below" && i + 1 < count) options.below = atof(arguments[++i]);
    else if (argument == "--json" && i + 1 < count) options.json = arguments[++i];
    else if (argument == "--seconds" && i + 1 < count) options.seconds = atof(arguments[++i]);
    else if (argument[0] != '-') options.names.push_back(argument);
    else return fprintf(stderr, "probes: unknown argument %s (see the top of main.cpp)\n", arguments[i]), 2;
  }
  std::vector<Probe> probes;
  auto named = [&](const Probe& probe) {
    auto starts = [&](const std::string& name) { return probe.name.rfind(name, 0) == 0; };
    return options.names.empty() || std::any_of(options.names.begin(), options.names.end(), starts);
  };
  for (auto* some : {layout_probes, box_probes, matmul_probes, split_probes, pair_probes, conv_probes})
    for (const Probe& probe : some())
      if (named(probe) && probe.elements < options.below) probes.push_back(probe);
  // The machine code lies beside this program.
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  const std::string program(path, length > 0 ? size_t(length) : 0);
  return Runs(options, probes, program.substr(0, program.rfind('/'))).all();
}
