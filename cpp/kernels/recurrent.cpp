#include "kernels/recurrent.h"

#include "core/isa.h"
#include "core/vecmath.h"
#include "kernels/gemm_core.h"

namespace narae {
namespace NARAE_ISA {
namespace {

// ---- cells -----------------------------------------------------------------------------------

// One sequence at one step. Rows of U values, or of G * U.
template <class T>
struct Row {
  // forward: h and c are h[t-1] and c[t-1] on the way in, h[t] and c[t] on the way out
  T* gates;  // x @ w + b + h @ u for the first kSummed gates, x @ w + b for the rest; then
             // activated
  T* kept;   // h @ u of the rest
  T *h, *c;
  // backward: dh is the gradient of this step's h on the way in, and what reaches h_before past the
  // products on the way out; likewise dc
  const T *h_before, *c_before, *dy;
  T *da, *dha, *dh, *dc;
};

template <class T>
Vec<T> activate(Vec<T> a, Activation activation) {
  switch (activation) {
    case Activation::relu:
      return a < T(0) ? Vec<T>{} : a;
    case Activation::sigmoid:
      return sigmoid<T>(a);
    case Activation::tanh:
      return tanh<T>(a);
    default:
      return a;
  }
}

// The derivative, of y = activation(a)
template <class T>
Vec<T> slope(Vec<T> y, Activation activation) {
  switch (activation) {
    case Activation::relu:
      return y > T(0) ? broadcast(T(1)) : Vec<T>{};
    case Activation::sigmoid:
      return y * (T(1) - y);
    case Activation::tanh:
      return T(1) - y * y;
    default:
      return broadcast(T(1));
  }
}

template <class T>
struct SimpleRnn {
  static constexpr int kGates = 1, kSummed = 1;

  static void forward(const RecurrentArgs<T>& p, const Row<T>& row) {
    for_lanes<T>(p.U, [&](std::int64_t j, std::int64_t lanes) {
      const Vec<T> a = load_lanes(row.gates + j, lanes);
      store_lanes<T>(row.h + j, activate<T>(a, p.activation), lanes);
    });
  }
  static void backward(const RecurrentArgs<T>& p, const Row<T>& row) {
    for_lanes<T>(p.U, [&](std::int64_t j, std::int64_t lanes) {
      const Vec<T> dh = load_lanes(row.dh + j, lanes) + load_lanes(row.dy + j, lanes);
      store_lanes<T>(row.da + j, dh * slope<T>(load_lanes(row.h + j, lanes), p.activation), lanes);
      store_lanes<T>(row.dh + j, Vec<T>{}, lanes);
    });
  }
};

template <class T>
struct Lstm {
  static constexpr int kGates = 4, kSummed = 4;

  static void forward(const RecurrentArgs<T>& p, const Row<T>& row) {
    const std::int64_t U = p.U;
    for_lanes<T>(U, [&](std::int64_t j, std::int64_t lanes) {
      const auto a = [&](int gate) { return load_lanes(row.gates + gate * U + j, lanes); };
      const Vec<T> i = sigmoid<T>(a(0)), f = sigmoid<T>(a(1)), g = tanh<T>(a(2)),
                   o = sigmoid<T>(a(3));
      const Vec<T> c = f * load_lanes(row.c + j, lanes) + i * g;
      store_lanes<T>(row.gates + j, i, lanes);
      store_lanes<T>(row.gates + U + j, f, lanes);
      store_lanes<T>(row.gates + 2 * U + j, g, lanes);
      store_lanes<T>(row.gates + 3 * U + j, o, lanes);
      store_lanes<T>(row.c + j, c, lanes);
      store_lanes<T>(row.h + j, o * tanh<T>(c), lanes);
    });
  }
  static void backward(const RecurrentArgs<T>& p, const Row<T>& row) {
    const std::int64_t U = p.U;
    for_lanes<T>(U, [&](std::int64_t j, std::int64_t lanes) {
      const Vec<T> i = load_lanes(row.gates + j, lanes), f = load_lanes(row.gates + U + j, lanes),
                   g = load_lanes(row.gates + 2 * U + j, lanes),
                   o = load_lanes(row.gates + 3 * U + j, lanes);
      const Vec<T> t = tanh<T>(load_lanes(row.kept + j, lanes));
      const Vec<T> dh = load_lanes(row.dh + j, lanes) + load_lanes(row.dy + j, lanes);
      const Vec<T> dc = load_lanes(row.dc + j, lanes) + dh * o * (T(1) - t * t);
      const Vec<T> c_before = load_lanes(row.c_before + j, lanes);
      store_lanes<T>(row.da + j, dc * g * (i * (T(1) - i)), lanes);
      store_lanes<T>(row.da + U + j, dc * c_before * (f * (T(1) - f)), lanes);
      store_lanes<T>(row.da + 2 * U + j, dc * i * (T(1) - g * g), lanes);
      store_lanes<T>(row.da + 3 * U + j, dh * t * (o * (T(1) - o)), lanes);
      store_lanes<T>(row.dc + j, dc * f, lanes);
      store_lanes<T>(row.dh + j, Vec<T>{}, lanes);
    });
  }
};

template <class T>
struct Gru {
  static constexpr int kGates = 3, kSummed = 2;

  static void forward(const RecurrentArgs<T>& p, const Row<T>& row) {
    const std::int64_t U = p.U;
    for_lanes<T>(U, [&](std::int64_t j, std::int64_t lanes) {
      const auto a = [&](int gate) { return load_lanes(row.gates + gate * U + j, lanes); };
      const auto bias = [&](int gate) {
        return p.bias ? load_lanes(p.bias + gate * U + j, lanes) : Vec<T>{};
      };
      const Vec<T> z = sigmoid<T>(a(0) + bias(0)), r = sigmoid<T>(a(1) + bias(1)),
                   h_g = load_lanes(row.kept + j, lanes) + bias(2), g = tanh<T>(a(2) + r * h_g);
      store_lanes<T>(row.gates + j, z, lanes);
      store_lanes<T>(row.gates + U + j, r, lanes);
      store_lanes<T>(row.gates + 2 * U + j, g, lanes);
      store_lanes<T>(row.kept + j, h_g, lanes);
      store_lanes<T>(row.h + j, z * load_lanes(row.h + j, lanes) + (T(1) - z) * g, lanes);
    });
  }
  static void backward(const RecurrentArgs<T>& p, const Row<T>& row) {
    const std::int64_t U = p.U;
    for_lanes<T>(U, [&](std::int64_t j, std::int64_t lanes) {
      const Vec<T> z = load_lanes(row.gates + j, lanes), r = load_lanes(row.gates + U + j, lanes),
                   g = load_lanes(row.gates + 2 * U + j, lanes);
      const Vec<T> dh = load_lanes(row.dh + j, lanes) + load_lanes(row.dy + j, lanes);
      const Vec<T> da_g = dh * (T(1) - z) * (T(1) - g * g);
      const Vec<T> da_z = dh * (load_lanes(row.h_before + j, lanes) - g) * (z * (T(1) - z));
      const Vec<T> da_r = da_g * load_lanes(row.kept + j, lanes) * (r * (T(1) - r));
      store_lanes<T>(row.da + j, da_z, lanes);
      store_lanes<T>(row.da + U + j, da_r, lanes);
      store_lanes<T>(row.da + 2 * U + j, da_g, lanes);
      store_lanes<T>(row.dha + j, da_z, lanes);
      store_lanes<T>(row.dha + U + j, da_r, lanes);
      store_lanes<T>(row.dha + 2 * U + j, da_g * r, lanes);
      store_lanes<T>(row.dh + j, dh * z, lanes);
    });
  }
};

// ---- steps -----------------------------------------------------------------------------------

// Rows that a product reads stand a register further apart than they are long: rows 4 KiB apart
// would share one set of the cache.
template <class T>
std::int64_t apart(std::int64_t n) {
  return round_up(n, kLanes<T>) + kLanes<T>;
}

template <class T>
std::int64_t workspace_size(std::int64_t B, std::int64_t U, std::int64_t G) {
  // forward packs u in two parts, each rounded up to a strip
  const std::int64_t forward = (round_up(G * U, kNR<T>) + kNR<T>)*U + B * apart<T>(U);
  const std::int64_t backward = round_up(U, kNR<T>) * G * U + B * apart<T>(G * U);
  return forward > backward ? forward : backward;
}

template <class T>
void copy(const T* from, T* to, std::int64_t n) {
  __builtin_memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
}

// A (K, N) matrix given by strides, in strips of kNR columns. Returns where they end.
template <class T>
T* pack(const T* matrix, std::int64_t row, std::int64_t col, std::int64_t K, std::int64_t N,
        T* packed) {
  const StridedB<T> source{matrix, row, col};
  for (std::int64_t n = 0; n < N; n += kNR<T>) {
    source.pack(0, K, n, smaller(kNR<T>, N - n), packed + n * K);
  }
  return packed + round_up(N, kNR<T>) * K;
}

// c (+)= a @ packed for a few rows of a and c.
template <class T>
void multiply(std::int64_t rows, std::int64_t N, std::int64_t K, const T* a, std::int64_t a_row,
              const T* packed, T* c, std::int64_t c_row, bool accumulate) {
  for (std::int64_t n = 0; n < N; n += kNR<T>) {
    for (std::int64_t m = 0; m < rows; m += kMR) {
      tile<T, false>(smaller(kMR, rows - m), smaller(kNR<T>, N - n), K, a + m * a_row, a_row, 1,
                     packed + n * K, kNR<T>, c + m * c_row + n, c_row, accumulate);
    }
  }
}

// The rows of a step lie far apart: the next sequence's are on their way while one is worked on.
template <class T>
void prefetch(const T* row, std::int64_t n) {
  for (std::int64_t j = 0; j < n; j += 64 / sizeof(T)) __builtin_prefetch(row + j);
}

// Sequences in chunks of equal size, at most a tile or an eighth of the batch: each chunk reads the
// whole of u in every step, so a small one at the end would cost as much as the others.
template <class Body>
void for_sequences(std::int64_t B, const Body& body) {
  const std::int64_t most = round_up(B / 8 + 1, kMR), chunks = (B + most - 1) / most;
  parallel_for(chunks, [&](std::int64_t i) { body(B * i / chunks, B * (i + 1) / chunks); });
}

template <class T, template <class> class Cell>
void forward(const RecurrentArgs<T>& p) {
  const std::int64_t steps = p.steps, U = p.U, width = Cell<T>::kGates * U, row = apart<T>(U),
                     summed = Cell<T>::kSummed * U;
  T* const u_summed = p.workspace;
  T* const u_rest = pack(p.u, width, 1, U, summed, u_summed);
  T* const states = pack(p.u + summed, width, 1, U, width - summed, u_rest);
  for_sequences(p.B, [=](std::int64_t begin, std::int64_t end) {
    T* const h = states + begin * row;
    for (std::int64_t b = begin; b < end; ++b) {
      copy(p.h0 + b * U, states + b * row, U);
      if (p.c0) copy(p.c0 + b * U, p.c + b * U, U);
    }
    for (std::int64_t n = 0; n < steps; ++n) {
      const std::int64_t t = p.reverse ? steps - 1 - n : n, first = begin * steps + t;
      multiply(end - begin, summed, U, h, row, u_summed, p.gates + first * width, steps * width,
               true);
      multiply(end - begin, width - summed, U, h, row, u_rest, p.kept + first * U, steps * U,
               false);
      for (std::int64_t b = begin; b < end; ++b) {
        const std::int64_t at = b * steps + t;
        Row<T> r{};
        r.gates = p.gates + at * width, r.kept = p.kept + at * U;
        r.h = states + b * row, r.c = p.c + b * U;
        if (!p.mask || p.mask[at]) Cell<T>::forward(p, r);
        copy(r.h, p.y + at * U, U);
        if (p.c0) copy(r.c, r.kept, U);
      }
    }
    for (std::int64_t b = begin; b < end; ++b) copy(states + b * row, p.h + b * U, U);
  });
}

// Where the state before step t lies: y at the step before, or h0.
template <class T>
struct Before {
  const T* data;
  std::int64_t row;
  Before(const T* first, const T* all, std::int64_t t, std::int64_t steps, std::int64_t U,
         bool reverse) {
    const bool is_first = t == (reverse ? steps - 1 : 0);
    data = is_first ? first : all + (reverse ? t + 1 : t - 1) * U;
    row = is_first ? U : steps * U;
  }
};

template <class T, template <class> class Cell>
void backward(const RecurrentArgs<T>& p) {
  const std::int64_t steps = p.steps, U = p.U, width = Cell<T>::kGates * U, row = apart<T>(width);
  T* const packed = p.workspace;
  T* const gradients = pack(p.u, 1, width, width, U, packed);  // packed: u^T
  for_sequences(p.B, [=](std::int64_t begin, std::int64_t end) {
    copy(p.dh + begin * U, p.dh0 + begin * U, (end - begin) * U);
    if (p.dc) copy(p.dc + begin * U, p.dc0 + begin * U, (end - begin) * U);
    for (std::int64_t n = steps - 1; n >= 0; --n) {
      const std::int64_t t = p.reverse ? steps - 1 - n : n;
      const Before<T> h(p.h0, p.y, t, steps, U, p.reverse), c(p.c0, p.kept, t, steps, U, p.reverse);
      for (std::int64_t b = begin; b < end; ++b) {
        const std::int64_t at = b * steps + t;
        Row<T> r{};
        r.gates = p.gates + at * width, r.kept = p.kept + at * U, r.h = p.y + at * U;
        r.h_before = h.data + b * h.row, r.dy = p.dy + at * U;
        r.da = p.da + at * width, r.dha = p.dha + at * width, r.dh = p.dh0 + b * U;
        if (p.c0) r.c_before = c.data + b * c.row, r.dc = p.dc0 + b * U;
        if (b + 1 < end) {
          prefetch(r.gates + steps * width, width);
          prefetch(r.kept + steps * U, U);
          prefetch(r.dy + steps * U, U);
          if (p.c0) prefetch(r.c_before + c.row, U);
        }
        if (!p.mask || p.mask[at]) {
          Cell<T>::backward(p, r);
        } else {  // y[t] = h[t-1]: dh goes on as it is
          for (std::int64_t j = 0; j < U; ++j) r.dh[j] += r.dy[j];
          for (std::int64_t j = 0; j < width; ++j) r.da[j] = r.dha[j] = T(0);
        }
        copy(r.dha, gradients + b * row, width);
      }
      multiply(end - begin, U, width, gradients + begin * row, row, packed, p.dh0 + begin * U, U,
               true);
    }
  });
}

template <class T>
void previous(const T* y, const T* h0, T* out, std::int64_t B, std::int64_t steps, std::int64_t U,
              bool reverse) {
  if (steps == 0) return;
  parallel_ranges(B, 1 + (std::int64_t{1} << 15) / (steps * U + 1),
                  [=](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t b = begin; b < end; ++b) {
                      const T* y_b = y + b * steps * U;
                      T* out_b = out + b * steps * U;
                      copy(h0 + b * U, out_b + (reverse ? (steps - 1) * U : 0), U);
                      copy(y_b + (reverse ? U : 0), out_b + (reverse ? 0 : U), (steps - 1) * U);
                    }
                  });
}

template <class T>
constexpr Recurrent<T> kTable = {
    workspace_size<T>, forward<T, SimpleRnn>, backward<T, SimpleRnn>, forward<T, Lstm>,
    backward<T, Lstm>, forward<T, Gru>,       backward<T, Gru>,       previous<T>};

}  // namespace
}  // namespace NARAE_ISA

template <>
const Recurrent<float>& implementation<Recurrent<float>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<float>;
}
template <>
const Recurrent<double>& implementation<Recurrent<double>, Isa::NARAE_ISA>() {
  return NARAE_ISA::kTable<double>;
}

}  // namespace narae
