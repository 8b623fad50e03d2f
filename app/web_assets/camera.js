// A photo by the camera of this machine, where the browser gives one (on localhost or over https).
"use strict";

const camera = document.getElementById("camera");
const video = camera.querySelector("video");
const take = document.getElementById("take");
const shoot = document.getElementById("shoot");

take.hidden = !navigator.mediaDevices?.getUserMedia;
take.addEventListener("click", async () => {
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch {
    say("There is no camera that this page may use.");
    return;
  }
  shoot.disabled = true;
  camera.showModal();
});
video.addEventListener("playing", () => (shoot.disabled = false));
camera.addEventListener("close", () => {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
});
document.getElementById("away").addEventListener("click", () => camera.close());
shoot.addEventListener("click", () => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  camera.close();
  canvas.toBlob((photo) => choose([new File([photo], "photo.png", { type: "image/png" })]), "image/png");
});
