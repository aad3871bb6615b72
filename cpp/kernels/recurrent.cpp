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
  T* gates;     // x @ w + b, then the activated gates
  const T* hu;  // h_before @ u
  const T* h_before;
  const T* c_before;
  T *h, *kept;
  // backward: dh is the gradient of this step's h on the way in, and what reaches h_before past the
  // products on the way out; likewise dc
  const T* dy;
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
  static constexpr int kGates = 1;
  static constexpr bool kKeeps = false;

  static void forward(const RecurrentArgs<T>& p, const Row<T>& row) {
    for_lanes<T>(p.U, [&](std::int64_t j, std::int64_t lanes) {
      const Vec<T> a = load_lanes(row.gates + j, lanes) + load_lanes(row.hu + j, lanes);
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
  static constexpr int kGates = 4;
  static constexpr bool kKeeps = true;

  static void forward(const RecurrentArgs<T>& p, const Row<T>& row) {
    const std::int64_t U = p.U;
    for_lanes<T>(U, [&](std::int64_t j, std::int64_t lanes) {
      const auto a = [&](int gate) {
        const std::int64_t at = gate * U + j;
        return load_lanes(row.gates + at, lanes) + load_lanes(row.hu + at, lanes);
      };
      const Vec<T> i = sigmoid<T>(a(0)), f = sigmoid<T>(a(1)), g = tanh<T>(a(2)),
                   o = sigmoid<T>(a(3));
      const Vec<T> c = f * load_lanes(row.c_before + j, lanes) + i * g;
      store_lanes<T>(row.gates + j, i, lanes);
      store_lanes<T>(row.gates + U + j, f, lanes);
      store_lanes<T>(row.gates + 2 * U + j, g, lanes);
      store_lanes<T>(row.gates + 3 * U + j, o, lanes);
      store_lanes<T>(row.kept + j, c, lanes);
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
  static constexpr int kGates = 3;
  static constexpr bool kKeeps = true;

  static void forward(const RecurrentArgs<T>& p, const Row<T>& row) {
    const std::int64_t U = p.U;
    for_lanes<T>(U, [&](std::int64_t j, std::int64_t lanes) {
      const auto x = [&](int gate) { return load_lanes(row.gates + gate * U + j, lanes); };
      const auto h = [&](int gate) {
        const Vec<T> hu = load_lanes(row.hu + gate * U + j, lanes);
        return p.bias ? hu + load_lanes(p.bias + gate * U + j, lanes) : hu;
      };
      const Vec<T> z = sigmoid<T>(x(0) + h(0)), r = sigmoid<T>(x(1) + h(1)), h_g = h(2),
                   g = tanh<T>(x(2) + r * h_g);
      store_lanes<T>(row.gates + j, z, lanes);
      store_lanes<T>(row.gates + U + j, r, lanes);
      store_lanes<T>(row.gates + 2 * U + j, g, lanes);
      store_lanes<T>(row.kept + j, h_g, lanes);
      store_lanes<T>(row.h + j, z * load_lanes(row.h_before + j, lanes) + (T(1) - z) * g, lanes);
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

template <class T>
std::int64_t workspace_size(std::int64_t B, std::int64_t U, std::int64_t G) {
  const std::int64_t forward = round_up(G * U, kNR<T>) * U + B * G * U;
  const std::int64_t backward = round_up(U, kNR<T>) * G * U;
  return forward > backward ? forward : backward;
}

template <class T>
void copy(const T* from, T* to, std::int64_t n) {
  __builtin_memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
}

// A (K, N) matrix given by strides, in strips of kNR columns.
template <class T>
void pack(const T* matrix, std::int64_t row, std::int64_t col, std::int64_t K, std::int64_t N,
          T* packed) {
  const StridedB<T> source{matrix, row, col};
  for (std::int64_t n = 0; n < N; n += kNR<T>) {
    source.pack(0, K, n, smaller(kNR<T>, N - n), packed + n * K);
  }
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

// Sequences in chunks of whole tiles, about eight of them.
template <class Body>
void for_sequences(std::int64_t B, const Body& body) {
  parallel_ranges(B, round_up(B / 8 + 1, kMR), body);
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
void forward(const RecurrentArgs<T>& p) {
  const std::int64_t steps = p.steps, U = p.U, width = Cell<T>::kGates * U;
  T *packed = p.workspace, *products = packed + round_up(width, kNR<T>) * U;
  pack(p.u, width, 1, U, width, packed);
  for_sequences(p.B, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = 0; n < steps; ++n) {
      const std::int64_t t = p.reverse ? steps - 1 - n : n;
      const Before<T> h(p.h0, p.y, t, steps, U, p.reverse), c(p.c0, p.kept, t, steps, U, p.reverse);
      multiply(end - begin, width, U, h.data + begin * h.row, h.row, packed,
               products + begin * width, width, false);
      for (std::int64_t b = begin; b < end; ++b) {
        const std::int64_t at = b * steps + t;
        Row<T> row{};
        row.gates = p.gates + at * width, row.hu = products + b * width;
        row.h_before = h.data + b * h.row, row.h = p.y + at * U;
        if (Cell<T>::kKeeps) row.c_before = c.data + b * c.row, row.kept = p.kept + at * U;
        if (!p.mask || p.mask[at]) {
          Cell<T>::forward(p, row);
        } else {
          copy(row.h_before, row.h, U);
          if (p.c0) copy(row.c_before, row.kept, U);
        }
      }
    }
    const std::int64_t last = p.reverse ? 0 : steps - 1;
    for (std::int64_t b = begin; b < end; ++b) {
      copy(steps ? p.y + (b * steps + last) * U : p.h0 + b * U, p.h + b * U, U);
      if (p.c0) copy(steps ? p.kept + (b * steps + last) * U : p.c0 + b * U, p.c + b * U, U);
    }
  });
}

template <class T, template <class> class Cell>
void backward(const RecurrentArgs<T>& p) {
  const std::int64_t steps = p.steps, U = p.U, width = Cell<T>::kGates * U;
  T* packed = p.workspace;
  pack(p.u, 1, width, width, U, packed);  // u^T
  for_sequences(p.B, [=](std::int64_t begin, std::int64_t end) {
    copy(p.dh + begin * U, p.dh0 + begin * U, (end - begin) * U);
    if (p.dc) copy(p.dc + begin * U, p.dc0 + begin * U, (end - begin) * U);
    for (std::int64_t n = steps - 1; n >= 0; --n) {
      const std::int64_t t = p.reverse ? steps - 1 - n : n;
      const Before<T> h(p.h0, p.y, t, steps, U, p.reverse), c(p.c0, p.kept, t, steps, U, p.reverse);
      for (std::int64_t b = begin; b < end; ++b) {
        const std::int64_t at = b * steps + t;
        Row<T> row{};
        row.gates = p.gates + at * width;
        row.h_before = h.data + b * h.row, row.h = p.y + at * U;
        if (Cell<T>::kKeeps) row.c_before = c.data + b * c.row, row.kept = p.kept + at * U;
        row.dy = p.dy + at * U, row.da = p.da + at * width, row.dha = p.dha + at * width;
        row.dh = p.dh0 + b * U, row.dc = p.dc ? p.dc0 + b * U : nullptr;
        if (!p.mask || p.mask[at]) {
          Cell<T>::backward(p, row);
        } else {  // y[t] = h[t-1]: dh goes on as it is
          for (std::int64_t j = 0; j < U; ++j) row.dh[j] += row.dy[j];
          for (std::int64_t j = 0; j < width; ++j) row.da[j] = row.dha[j] = T(0);
        }
      }
      multiply(end - begin, U, width, p.dha + (begin * steps + t) * width, steps * width, packed,
               p.dh0 + begin * U, U, true);
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
