// How loud a stream is, as a CSS variable (0 to 1) on an element, while it is watched.

export class Meter {
  constructor(target, variable) {
    this.target = target;
    this.variable = variable;
    this.level = 0;
  }

  watch(stream) {
    this.stop();
    this.context = new AudioContext();
    const analyser = this.context.createAnalyser();
    analyser.fftSize = 512;
    this.context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const draw = () => {
      analyser.getFloatTimeDomainData(samples);
      const rms = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
      const loudness = Math.min(1, Math.max(0, (20 * Math.log10(rms + 1e-6) + 55) / 40)); // -55 to -15 dBFS
      this.level = Math.max(loudness, this.level * 0.85); // rises at once, falls softly
      this.target.style.setProperty(this.variable, this.level.toFixed(2));
      this.frame = requestAnimationFrame(draw);
    };
    draw();
  }

  stop() {
    cancelAnimationFrame(this.frame);
    this.context?.close();
    this.context = null;
    this.level = 0;
    this.target.style.setProperty(this.variable, "0");
  }
}
