// The scans of state-space models on a CPU, forward and backward, each in one pass over its inputs.
//
// Compiled for the processor at hand when a scan first runs (fused_scans.py); plain PyTorch computes the same without it.
// Dimensions: B sequences, L positions, E features, N states of a feature. All arrays are float32 and contiguous.
// Work is cut into jobs of one sequence and TILE features. Thread k always gets the same jobs, so sums are repeatable.

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#define VECS 4
#define TILE (VECS * LANES)
#define BLOCK 32  // positions between two kept states; selective_scan.py has the same number
#define COLUMNS 256
#define MAX_THREADS 256

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));

static inline long least(long a, long b) { return a < b ? a : b; }

// e^x for x <= 0, to float32's last bit or two; 0 below e^-87, where float32 would lose its precision.
static inline vec exp_of_negative(vec x) {
    const vec zero = {};
    const vec lowest = zero - 87.0f;
    const vec clamped = x > lowest ? x : lowest;
    const vec shifted = clamped * 1.44269504088896341f + 12582912.0f;  // adding 1.5 * 2^23 rounds to an integer
    const vec n = shifted - 12582912.0f;
    const vec r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * (r * r) + r) + 1.0f;
    const ivec bits = (((ivec)shifted - 0x4B400000) + 127) << 23;
    const vec power = p * (vec)bits;
    return x > lowest ? power : zero;
}

static inline float sum_of_lanes(vec x) {
    float part[LANES];
    memcpy(part, &x, sizeof part);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) part[i] += part[i + half];
    return part[0];
}

// Features past the last one read as zero and are not written.
static inline void load(vec* to, const float* from, long width) {
    if (width == TILE) {
        memcpy(to, from, sizeof(float) * TILE);
    } else {
        memset(to, 0, sizeof(float) * TILE);
        memcpy(to, from, sizeof(float) * width);
    }
}
static inline void store(float* to, const vec* from, long width) {
    memcpy(to, from, sizeof(float) * width);
}

// ---- work for several threads ------------------------------------------------------------------------------------

struct Work {
    void (*run)(const void* arguments, long first, long last, long thread);
    const void* arguments;
    long first, last, thread;
};

static void* run_work(void* given) {
    const Work* work = (const Work*)given;
    work->run(work->arguments, work->first, work->last, work->thread);
    return 0;
}

static void in_threads(void (*run)(const void*, long, long, long), const void* arguments, long jobs, long threads) {
    threads = least(least(threads, jobs), MAX_THREADS);
    if (threads < 1) threads = 1;
    Work work[MAX_THREADS];
    pthread_t handles[MAX_THREADS];
    bool started[MAX_THREADS];
    for (long k = 0; k < threads; k++) {
        work[k] = {run, arguments, jobs * k / threads, jobs * (k + 1) / threads, k};
        started[k] = k > 0 && pthread_create(&handles[k], 0, run_work, &work[k]) == 0;
    }
    for (long k = 0; k < threads; k++)
        if (!started[k]) run_work(&work[k]);
    for (long k = 0; k < threads; k++)
        if (started[k]) pthread_join(handles[k], 0);
}

static vec* room(long vectors) {
    void* memory = 0;
    return posix_memalign(&memory, 64, sizeof(vec) * vectors) == 0 ? (vec*)memory : 0;
}

// ---- selective scan: h = exp(dt A) h + dt x B, y = C h -----------------------------------------------------------

struct Selective {
    const float *x, *dt, *rate, *write, *read;  // (B, L, E), (B, L, E), (N, E), (B, L, N), (B, L, N)
    float *y, *starts;                          // (B, L, E), (blocks, B, N, E): the state before each block
    const float* grad_y;                        // (B, L, E)
    float *grad_x, *grad_dt, *grad_rate;        // (B, L, E), (B, L, E), (B, N, E)
    float *grad_write, *grad_read;              // (threads, B, L, N), zeros on entry
    long B, L, E, N;
};

static void selective_forward_jobs(const void* given, long first, long last, long) {
    const Selective& s = *(const Selective*)given;
    const long tiles = (s.E + TILE - 1) / TILE;
    vec* states = room(2 * s.N * VECS);
    vec* rates = states + s.N * VECS;
    vec dt[BLOCK][VECS], driven[BLOCK][VECS], y[BLOCK][VECS];
    for (long job = first; job < last; job++) {
        const long b = job / tiles, e = (job % tiles) * TILE, width = least(TILE, s.E - e);
        memset(states, 0, sizeof(vec) * s.N * VECS);
        for (long n = 0; n < s.N; n++) load(rates + n * VECS, s.rate + n * s.E + e, width);
        for (long from = 0, block = 0; from < s.L; from += BLOCK, block++) {
            const long steps = least(BLOCK, s.L - from);
            for (long t = 0; t < steps; t++) {
                const long row = (b * s.L + from + t) * s.E + e;
                load(dt[t], s.dt + row, width);
                load(driven[t], s.x + row, width);
                for (int v = 0; v < VECS; v++) driven[t][v] *= dt[t][v], y[t][v] = vec{};
            }
            for (long n = 0; n < s.N; n++) {
                store(s.starts + ((block * s.B + b) * s.N + n) * s.E + e, states + n * VECS, width);
                const float* write = s.write + (b * s.L + from) * s.N + n;
                const float* read = s.read + (b * s.L + from) * s.N + n;
                vec h[VECS], rate[VECS];
                for (int v = 0; v < VECS; v++) h[v] = states[n * VECS + v], rate[v] = rates[n * VECS + v];
                for (long t = 0; t < steps; t++) {
                    const float w = write[t * s.N], r = read[t * s.N];
                    for (int v = 0; v < VECS; v++) {
                        h[v] = exp_of_negative(dt[t][v] * rate[v]) * h[v] + driven[t][v] * w;
                        y[t][v] += h[v] * r;
                    }
                }
                for (int v = 0; v < VECS; v++) states[n * VECS + v] = h[v];
            }
            for (long t = 0; t < steps; t++) store(s.y + (b * s.L + from + t) * s.E + e, y[t], width);
        }
    }
    free(states);
}

static void selective_backward_jobs(const void* given, long first, long last, long thread) {
    const Selective& s = *(const Selective*)given;
    const long tiles = (s.E + TILE - 1) / TILE, blocks = (s.L + BLOCK - 1) / BLOCK;
    vec* carried = room(3 * s.N * VECS);
    vec* rates = carried + s.N * VECS;
    vec* grad_rates = rates + s.N * VECS;
    vec dt[BLOCK][VECS], x[BLOCK][VECS], driven[BLOCK][VECS], grad_y[BLOCK][VECS];
    vec grad_dt[BLOCK][VECS], grad_driven[BLOCK][VECS], decay[BLOCK][VECS], before[BLOCK][VECS];
    for (long job = first; job < last; job++) {
        const long b = job / tiles, e = (job % tiles) * TILE, width = least(TILE, s.E - e);
        memset(carried, 0, sizeof(vec) * s.N * VECS);
        memset(grad_rates, 0, sizeof(vec) * s.N * VECS);
        for (long n = 0; n < s.N; n++) load(rates + n * VECS, s.rate + n * s.E + e, width);
        for (long block = blocks - 1; block >= 0; block--) {
            const long from = block * BLOCK, steps = least(BLOCK, s.L - from);
            for (long t = 0; t < steps; t++) {
                const long row = (b * s.L + from + t) * s.E + e;
                load(dt[t], s.dt + row, width);
                load(x[t], s.x + row, width);
                load(grad_y[t], s.grad_y + row, width);
                for (int v = 0; v < VECS; v++) {
                    driven[t][v] = dt[t][v] * x[t][v];
                    grad_dt[t][v] = grad_driven[t][v] = vec{};
                }
            }
            for (long n = 0; n < s.N; n++) {
                const long column = (b * s.L + from) * s.N + n;
                const float *write = s.write + column, *read = s.read + column;
                float* grad_write = s.grad_write + thread * s.B * s.L * s.N + column;
                float* grad_read = s.grad_read + thread * s.B * s.L * s.N + column;
                vec h[VECS], rate[VECS], g[VECS], grad_rate[VECS];
                load(h, s.starts + ((block * s.B + b) * s.N + n) * s.E + e, width);
                for (int v = 0; v < VECS; v++) {
                    rate[v] = rates[n * VECS + v], g[v] = carried[n * VECS + v];
                    grad_rate[v] = grad_rates[n * VECS + v];
                }
                for (long t = 0; t < steps; t++) {  // the states of the block again
                    const float w = write[t * s.N];
                    vec sum = {};
                    for (int v = 0; v < VECS; v++) {
                        before[t][v] = h[v];
                        decay[t][v] = exp_of_negative(dt[t][v] * rate[v]);
                        h[v] = decay[t][v] * h[v] + driven[t][v] * w;
                        sum += grad_y[t][v] * h[v];
                    }
                    grad_read[t * s.N] += sum_of_lanes(sum);
                }
                for (long t = steps - 1; t >= 0; t--) {
                    const float w = write[t * s.N], r = read[t * s.N];
                    vec sum = {};
                    for (int v = 0; v < VECS; v++) {
                        g[v] += grad_y[t][v] * r;
                        sum += g[v] * driven[t][v];
                        grad_driven[t][v] += g[v] * w;
                        g[v] *= decay[t][v];
                        const vec grad_exponent = g[v] * before[t][v];
                        grad_dt[t][v] += grad_exponent * rate[v];
                        grad_rate[v] += grad_exponent * dt[t][v];
                    }
                    grad_write[t * s.N] += sum_of_lanes(sum);
                }
                for (int v = 0; v < VECS; v++) {
                    carried[n * VECS + v] = g[v];
                    grad_rates[n * VECS + v] = grad_rate[v];
                }
            }
            for (long t = 0; t < steps; t++) {
                const long row = (b * s.L + from + t) * s.E + e;
                for (int v = 0; v < VECS; v++) {
                    grad_dt[t][v] += grad_driven[t][v] * x[t][v];
                    grad_driven[t][v] *= dt[t][v];
                }
                store(s.grad_x + row, grad_driven[t], width);
                store(s.grad_dt + row, grad_dt[t], width);
            }
        }
        for (long n = 0; n < s.N; n++) store(s.grad_rate + (b * s.N + n) * s.E + e, grad_rates + n * VECS, width);
    }
    free(carried);
}

extern "C" void selective_forward(const float* x, const float* dt, const float* rate, const float* write,
                                  const float* read, float* y, float* starts, long B, long L, long E, long N,
                                  long threads) {
    const Selective s = {x, dt, rate, write, read, y, starts, 0, 0, 0, 0, 0, 0, B, L, E, N};
    in_threads(selective_forward_jobs, &s, B * ((E + TILE - 1) / TILE), threads);
}

extern "C" void selective_backward(const float* grad_y, const float* x, const float* dt, const float* rate,
                                   const float* write, const float* read, const float* starts, float* grad_x,
                                   float* grad_dt, float* grad_rate, float* grad_write, float* grad_read, long B,
                                   long L, long E, long N, long threads) {
    const Selective s = {x,      dt,      rate,      write,      read,      0, (float*)starts, grad_y,
                         grad_x, grad_dt, grad_rate, grad_write, grad_read, B, L,              E,      N};
    in_threads(selective_backward_jobs, &s, B * ((E + TILE - 1) / TILE), threads);
}

// ---- diagonal recurrence: h = a h + b, real or complex (pairs of floats) ----------------------------------------

struct Diagonal {
    const float *decay, *update, *states, *grad;  // all (B, L, D), D counting complex numbers once
    float *out, *grad_decay;
    long B, L, D;
};

template <bool COMPLEX>
static void diagonal_forward_jobs(const void* given, long first, long last, long) {
    const Diagonal& s = *(const Diagonal*)given;
    const long tiles = (s.D + COLUMNS - 1) / COLUMNS, size = COMPLEX ? 2 : 1;
    for (long job = first; job < last; job++) {
        const long b = job / tiles, from = (job % tiles) * COLUMNS, columns = least(COLUMNS, s.D - from);
        float h[COLUMNS * 2] = {};
        for (long t = 0; t < s.L; t++) {
            const long row = ((b * s.L + t) * s.D + from) * size;
            const float *a = s.decay + row, *u = s.update + row;
            float* __restrict__ out = s.out + row;
            for (long d = 0; d < columns; d++) {
                if (COMPLEX) {
                    const float re = h[2 * d], im = h[2 * d + 1];
                    h[2 * d] = a[2 * d] * re - a[2 * d + 1] * im + u[2 * d];
                    h[2 * d + 1] = a[2 * d] * im + a[2 * d + 1] * re + u[2 * d + 1];
                    out[2 * d] = h[2 * d], out[2 * d + 1] = h[2 * d + 1];
                } else {
                    h[d] = a[d] * h[d] + u[d];
                    out[d] = h[d];
                }
            }
        }
    }
}

// g_t = grad_t + conj(a_(t+1)) g_(t+1); the gradient of b is g, that of a is g conj(h_(t-1)).
template <bool COMPLEX>
static void diagonal_backward_jobs(const void* given, long first, long last, long) {
    const Diagonal& s = *(const Diagonal*)given;
    const long tiles = (s.D + COLUMNS - 1) / COLUMNS, size = COMPLEX ? 2 : 1;
    const float nothing[COLUMNS * 2] = {};
    for (long job = first; job < last; job++) {
        const long b = job / tiles, from = (job % tiles) * COLUMNS, columns = least(COLUMNS, s.D - from);
        float carried[COLUMNS * 2] = {};
        for (long t = s.L - 1; t >= 0; t--) {
            const long row = ((b * s.L + t) * s.D + from) * size;
            const float *a = s.decay + row, *grad = s.grad + row;
            const float* before = t > 0 ? s.states + row - s.D * size : nothing;
            float* __restrict__ grad_b = s.out + row;
            float* __restrict__ grad_a = s.grad_decay + row;
            for (long d = 0; d < columns; d++) {
                if (COMPLEX) {
                    const float re = grad[2 * d] + carried[2 * d], im = grad[2 * d + 1] + carried[2 * d + 1];
                    grad_b[2 * d] = re, grad_b[2 * d + 1] = im;
                    grad_a[2 * d] = re * before[2 * d] + im * before[2 * d + 1];
                    grad_a[2 * d + 1] = im * before[2 * d] - re * before[2 * d + 1];
                    carried[2 * d] = re * a[2 * d] + im * a[2 * d + 1];
                    carried[2 * d + 1] = im * a[2 * d] - re * a[2 * d + 1];
                } else {
                    const float g = grad[d] + carried[d];
                    grad_b[d] = g;
                    grad_a[d] = g * before[d];
                    carried[d] = g * a[d];
                }
            }
        }
    }
}

extern "C" void diagonal_forward(const float* decay, const float* update, float* states, long B, long L, long D,
                                 long is_complex, long threads) {
    const Diagonal s = {decay, update, 0, 0, states, 0, B, L, D};
    const long jobs = B * ((D + COLUMNS - 1) / COLUMNS);
    in_threads(is_complex ? diagonal_forward_jobs<true> : diagonal_forward_jobs<false>, &s, jobs, threads);
}

extern "C" void diagonal_backward(const float* grad, const float* decay, const float* states, float* grad_decay,
                                  float* grad_update, long B, long L, long D, long is_complex, long threads) {
    const Diagonal s = {decay, 0, states, grad, grad_update, grad_decay, B, L, D};
    const long jobs = B * ((D + COLUMNS - 1) / COLUMNS);
    in_threads(is_complex ? diagonal_backward_jobs<true> : diagonal_backward_jobs<false>, &s, jobs, threads);
}

// ---- short convolution of rows: y_t = bias + sum over j of taps_j x_(t + j - left), the positions side by side ----

struct Rows {
    const float *x, *taps, *bias, *grad;  // (E, B, L), (E, K), (E) or none, (E, B, L)
    float* out;                           // (E, B, L), or of the gradients (E, B, K + 1): the taps', and the bias's
    long B, L, K, left;
};

static void rows_forward_jobs(const void* given, long first, long last, long) {
    const Rows& s = *(const Rows*)given;
    for (long job = first; job < last; job++) {
        const float *x = s.x + job * s.L, *taps = s.taps + job / s.B * s.K;
        const float bias = s.bias ? s.bias[job / s.B] : 0.0f;
        float* y = s.out + job * s.L;
        const long last_whole = s.L - LANES - (s.K - 1 - s.left);  // the last position from which whole vectors see all
        long t = 0;
        while (t < s.L) {
            if (t > last_whole && t < last_whole + LANES && last_whole >= s.left) t = last_whole;  // some twice
            if (t >= s.left && t <= last_whole) {
                vec sum = vec{} + bias, seen;
                for (long j = 0; j < s.K; j++) memcpy(&seen, x + t + j - s.left, sizeof seen), sum += taps[j] * seen;
                memcpy(y + t, &sum, sizeof sum), t += LANES;
            } else {
                float sum = bias;
                for (long j = t < s.left ? s.left - t : 0; j < least(s.K, s.L - t + s.left); j++)
                    sum += taps[j] * x[t + j - s.left];
                y[t++] = sum;
            }
        }
    }
}

static void rows_backward_jobs(const void* given, long first, long last, long) {
    const Rows& s = *(const Rows*)given;
    for (long job = first; job < last; job++) {
        const float *x = s.x + job * s.L, *grad = s.grad + job * s.L;
        for (long j = 0; j <= s.K; j++) {
            const long shift = j < s.K ? j - s.left : 0, end = shift > 0 ? s.L - shift : s.L;
            long t = shift < 0 ? -shift : 0;
            vec sums = {}, g, seen = vec{} + 1.0f;
            for (; t + LANES <= end; t += LANES) {
                memcpy(&g, grad + t, sizeof g);
                if (j < s.K) memcpy(&seen, x + t + shift, sizeof seen);
                sums += g * seen;
            }
            float sum = sum_of_lanes(sums);
            for (; t < end; t++) sum += j < s.K ? grad[t] * x[t + shift] : grad[t];
            s.out[job * (s.K + 1) + j] = sum;
        }
    }
}

extern "C" void rows_forward(const float* x, const float* taps, const float* bias, float* y, long E, long B, long L,
                             long K, long left, long threads) {
    const Rows s = {x, taps, bias, 0, y, B, L, K, left};
    in_threads(rows_forward_jobs, &s, B * E, threads);
}

extern "C" void rows_backward(const float* x, const float* grad, float* gradients, long E, long B, long L, long K,
                              long left, long threads) {
    const Rows s = {x, 0, 0, grad, gradients, B, L, K, left};
    in_threads(rows_backward_jobs, &s, B * E, threads);
}
